/**
 * Weighted k-means of numbers, exactly: clusters are intervals of the sorted numbers, and the best ends are found by dynamic programming. With
 * S and P the sums of weight · number and of weight over an interval, Σ weight · (number - mean)² is least where Σ S² / P over the clusters is
 * largest; the best start of the last cluster never falls as its end rises, so each cluster takes O(n log n) by divide and conquer.
 * Source: Wang and Song 2011, Ckmeans.1d.dp (The R Journal 3/2); divide and conquer as in Grønlund et al. 2017, arXiv 1701.07204, §2.
 * @module
 */
import { checkInteger, LmqError } from '@lmq/tensor';

/**
 * Centres with the least Σ weight · (number - nearest centre)², rising; float64 arithmetic. O(k n log n), k n / 4 megabytes for a million numbers.
 * @param values finite, in any order, at least one
 * @param weights one for each, not negative; numbers of weight 0 count for nothing, unless all weights are 0: then all count alike
 * @returns at most `k`: as many as there are different numbers that count
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value`
 */
export function kmeans1d(values: Float32Array, weights: ArrayLike<number>, k: number): Float64Array {
  const op = 'kmeans1d';
  checkInteger(k, 'k', 1, 65536, op);
  if (weights.length !== values.length || values.length === 0) {
    throw new LmqError('argument/shape', 'weights do not fit the values', {
      op,
      expected: Math.max(values.length, 1),
      found: weights.length,
    });
  }
  const { points, mass } = distinct(values, weights, op);
  const n = points.length;
  if (n <= k) return points;
  // prefix sums; numbers less their mean, so that differences of sums lose little
  const total = mass.reduce((a, b) => a + b, 0);
  const mean = points.reduce((sum, x, i) => sum + x * mass[i]!, 0) / total;
  const p = new Float64Array(n + 1);
  const s = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) {
    p[i + 1] = p[i]! + mass[i]!;
    s[i + 1] = s[i]! + mass[i]! * (points[i]! - mean);
  }
  let before = new Float64Array(n + 1); // largest Σ S² / P of the first j numbers in one cluster fewer
  let now = new Float64Array(n + 1);
  for (let j = 1; j <= n; j++) now[j] = s[j]! ** 2 / p[j]!;
  const starts = new Uint32Array(k * (n + 1)); // of the last cluster, by number of clusters and end
  for (let c = 1; c < k; c++) {
    [before, now] = [now, before];
    split(before, now, p, s, starts.subarray(c * (n + 1), (c + 1) * (n + 1)), c + 1, n, c, n - 1);
  }
  const centres = new Float64Array(k);
  for (let c = k - 1, end = n; c >= 0; c--) {
    const from = c === 0 ? 0 : starts[c * (n + 1) + end]!;
    centres[c] = mean + (s[end]! - s[from]!) / (p[end]! - p[from]!);
    end = from;
  }
  return centres;
}

/** Fills `now` and `starts` for ends lo … hi, whose best starts lie in from … to. */
function split(
  before: Float64Array,
  now: Float64Array,
  p: Float64Array,
  s: Float64Array,
  starts: Uint32Array,
  lo: number,
  hi: number,
  from: number,
  to: number,
): void {
  if (lo > hi) return;
  const end = (lo + hi) >> 1;
  const [pe, se] = [p[end]!, s[end]!];
  const last = Math.min(end - 1, to);
  let best = Number.NEGATIVE_INFINITY;
  let start = from;
  for (let i = from; i <= last; i++) {
    const d = se - s[i]!;
    const gain = before[i]! + (d * d) / (pe - p[i]!);
    if (gain > best) {
      best = gain;
      start = i;
    }
  }
  now[end] = best;
  starts[end] = start;
  split(before, now, p, s, starts, lo, end - 1, from, start);
  split(before, now, p, s, starts, end + 1, hi, start, to);
}

/** The different numbers that count, rising, and the sum of the weights of each. */
function distinct(values: Float32Array, weights: ArrayLike<number>, op: string): { points: Float64Array; mass: Float64Array } {
  let any = false;
  for (let i = 0; i < values.length; i++) {
    const weight = weights[i]!;
    if (!(weight >= 0 && weight < Number.POSITIVE_INFINITY && Number.isFinite(values[i]))) {
      throw new LmqError('argument/value', `number ${i} or its weight is not usable`, {
        op,
        expected: 'a finite number, and a finite weight of at least 0',
        found: `${values[i]}, weight ${weight}`,
      });
    }
    any ||= weight > 0;
  }
  const sorted = (any ? values.filter((_, i) => weights[i]! > 0) : values.slice()).map((x) => x + 0).sort(); // + 0: -0 is 0
  const points = Float64Array.from(sorted.filter((x, i) => i === 0 || x !== sorted[i - 1]));
  const mass = new Float64Array(points.length);
  for (let i = 0; i < values.length; i++) {
    if (any && !(weights[i]! > 0)) continue;
    let lo = 0;
    let hi = points.length - 1;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (points[mid]! < values[i]!) lo = mid + 1;
      else hi = mid;
    }
    mass[lo]! += any ? weights[i]! : 1;
  }
  return { points, mass };
}
