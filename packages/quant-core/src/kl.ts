/**
 * Entropy calibration as TensorRT describes it (Migacz 2017, "8-bit Inference with TensorRT"): where to clip magnitudes so that their
 * distribution loses the least information on a grid of few levels.
 *
 * For i = levels … bins, P is the first i bins with all mass beyond them added to the last, and Q the same bins without that mass, merged
 * into `levels` levels and spread evenly over the bins of a level that P has anything in. The first i of least KL(P ‖ Q) wins (less by
 * more than rounding), and the threshold is the middle of the next bin, (i + ½) bins. Level of bin k: floor(k levels / i), so that levels
 * differ by at most one bin. Where P has mass and Q none, which is so when a last level holds clipped values only, Q is taken as 1e-4
 * values: bad, not infinitely so.
 *
 * float64. O((bins - levels) levels) by prefix sums.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/** Stands for no value at all in Q. */
const EPSILON = 1e-4;

/**
 * Bins to keep.
 * @param counts of magnitudes, from 0 in equal bins; integers or weights >= 0
 * @param levels of the grid, for magnitudes: 2 ** (bits - 1)
 * @returns threshold in bins, i + 0.5; all of them, `counts.length`, when there are no more bins than levels or no values
 * @throws LmqError `argument/option` when `levels` is not a positive integer
 */
export function klThreshold(counts: ArrayLike<number>, levels: number): number {
  if (!(Number.isInteger(levels) && levels > 0)) {
    throw new LmqError('argument/option', 'levels is out of range', { op: 'klThreshold', expected: 'a positive integer', found: levels });
  }
  const bins = counts.length;
  const mass = new Float64Array(bins + 1); // before each bin: values, bins with values, Σ c ln c
  const filled = new Float64Array(bins + 1);
  const entropy = new Float64Array(bins + 1);
  for (let k = 0; k < bins; k++) {
    const c = counts[k]!;
    mass[k + 1] = mass[k]! + c;
    filled[k + 1] = filled[k]! + (c > 0 ? 1 : 0);
    entropy[k + 1] = entropy[k]! + cLogC(c);
  }
  const total = mass[bins]!;
  if (bins <= levels || total === 0) return bins;
  let best = Number.POSITIVE_INFINITY;
  let keep = bins;
  for (let i = levels; i <= bins; i++) {
    const tail = total - mass[i]!;
    const last = counts[i - 1]!;
    let cross = 0; // Σ p ln q over bins
    let qTotal = mass[i]!;
    for (let level = 0, from = 0; level < levels; level++) {
      const to = Math.ceil(((level + 1) * i) / levels);
      const own = mass[to]! - mass[from]!;
      const clipped = level === levels - 1 ? tail : 0;
      const places = filled[to]! - filled[from]! + (clipped > 0 && last === 0 ? 1 : 0);
      from = to;
      if (own + clipped === 0) continue;
      if (own === 0) qTotal += EPSILON;
      cross += (own + clipped) * Math.log((own || EPSILON) / places);
    }
    const own = entropy[i]! - cLogC(last) + cLogC(last + tail);
    const divergence = (own - cross) / total - Math.log(total) + Math.log(qTotal);
    if (divergence < best - 1e-12) {
      best = divergence;
      keep = i;
    }
  }
  return keep === bins ? bins : keep + 0.5;
}

function cLogC(c: number): number {
  return c > 0 ? c * Math.log(c) : 0;
}
