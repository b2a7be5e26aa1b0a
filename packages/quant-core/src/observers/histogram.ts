/**
 * Histogram of |x| over a stream of tensors, from which static activation ranges are chosen: a percentile, or the threshold that keeps
 * the most information (KL).
 *
 * The range is a power of two above every value seen. When it has to grow it doubles, and neighbouring bins merge two and two, which is
 * the histogram that the wider range would have given: so any batch split, and any order of merging, has the same counts.
 * @module
 */
import { checkInteger, LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { stridesOf } from '../_rows.js';
import { klThreshold } from '../kl.js';

export interface HistogramOpts {
  /** Even. Default 2048; as the range is rounded up to a power of two, at least half of them are used. */
  bins?: number;
}

/** Counts of magnitudes in equal bins from 0; bin k holds [k, k + 1) · width. */
export interface Histogram {
  counts: Float64Array;
  /** Of a bin; 0 when every value was zero. */
  width: number;
  /** Largest magnitude. */
  absMax: number;
  /** Values seen. */
  count: number;
}

export interface HistogramObserver {
  readonly count: number;
  /** @throws LmqError `argument/value` for NaN and infinity, before anything is counted */
  add(x: Tensor): void;
  /** Adds what an observer with as many bins has seen. */
  merge(other: HistogramObserver): void;
  /** @throws LmqError `calibration/short` before the first value */
  read(): Histogram;
}

/** Starts an observer. */
export function createHistogramObserver(opts: HistogramOpts = {}): HistogramObserver {
  const bins = checkInteger(opts.bins ?? 2048, 'bins', 2, 2 ** 20, 'histogramObserver');
  if (bins % 2) throw new LmqError('argument/option', 'bins is odd', { op: 'histogramObserver', expected: 'an even number', found: bins });
  const counts = new Float64Array(bins);
  let range = 0; // none yet: only zeros, which are all in bin 0
  let absMax = 0;
  let count = 0;
  const reach = (limit: number) => {
    if (range === 0) range = limit;
    for (; range < limit; range *= 2) {
      for (let k = 0; k < bins / 2; k++) counts[k] = counts[2 * k]! + counts[2 * k + 1]!;
      counts.fill(0, bins / 2);
    }
  };
  return {
    get count() {
      return count;
    },
    add(x) {
      const [rows, cols] = matrixShape(x, 'histogramObserver');
      const [rowStride, colStride] = stridesOf(x);
      let largest = 0;
      for (let r = 0; r < rows; r++) {
        let at = x.offset + r * rowStride;
        for (let c = 0; c < cols; c++, at += colStride) {
          const v = Math.abs(x.data[at]!);
          if (!(v < Number.POSITIVE_INFINITY)) {
            throw new LmqError('argument/value', 'an activation is not finite', {
              op: 'histogramObserver',
              found: `${x.data[at]} at [${r}, ${c}]`,
            });
          }
          if (v > largest) largest = v;
        }
      }
      if (largest > 0) reach(powerAbove(largest));
      absMax = Math.max(absMax, largest);
      count += rows * cols;
      if (largest === 0) {
        counts[0]! += rows * cols;
        return;
      }
      const perUnit = bins / range;
      for (let r = 0; r < rows; r++) {
        let at = x.offset + r * rowStride;
        for (let c = 0; c < cols; c++, at += colStride) counts[Math.trunc(Math.abs(x.data[at]!) * perUnit)]!++;
      }
    },
    merge(other) {
      if (other.count === 0) return;
      const o = other.read();
      if (o.counts.length !== bins) {
        throw new LmqError('argument/shape', 'the number of bins differs', {
          op: 'histogramObserver',
          expected: bins,
          found: o.counts.length,
        });
      }
      const theirs = o.width * bins;
      if (theirs > 0) reach(theirs);
      const step = theirs > 0 ? range / theirs : 1;
      for (let k = 0; k < bins; k++) counts[Math.floor(k / step)]! += o.counts[k]!;
      absMax = Math.max(absMax, o.absMax);
      count += o.count;
    },
    read() {
      if (count === 0) throw new LmqError('calibration/short', 'no value was seen', { op: 'histogramObserver' });
      return { counts: counts.slice(), width: range / bins, absMax, count };
    },
  };
}

/**
 * Magnitude that `percentile` percent of the values do not exceed: linear inside a bin, at most the largest value.
 * @param percentile in (0, 100]
 * @throws LmqError `argument/option`
 */
export function histogramPercentile(h: Histogram, percentile: number): number {
  if (!(percentile > 0 && percentile <= 100)) {
    throw new LmqError('argument/option', 'percentile is out of range', {
      op: 'histogram',
      expected: '0 < percentile <= 100',
      found: percentile,
    });
  }
  if (percentile === 100) return h.absMax;
  const wanted = (h.count * percentile) / 100;
  let before = 0;
  for (let k = 0; k < h.counts.length; k++) {
    const c = h.counts[k]!;
    if (c > 0 && before + c >= wanted) return Math.min((k + (wanted - before) / c) * h.width, h.absMax);
    before += c;
  }
  return h.absMax;
}

/**
 * Magnitude to clip at for a grid of `bits` bits, by {@link klThreshold} over the bins up to the largest value; at most that value.
 * @param bits 2 to 8
 * @throws LmqError `argument/option`
 */
export function histogramKl(h: Histogram, bits: number): number {
  checkInteger(bits, 'bits', 2, 8, 'histogram');
  if (h.width === 0) return 0;
  const used = h.counts.subarray(0, Math.min(h.counts.length, Math.floor(h.absMax / h.width) + 1));
  return Math.min(klThreshold(used, 2 ** (bits - 1)) * h.width, h.absMax);
}

/** Least power of two above a positive float32. */
function powerAbove(v: number): number {
  let p = 2 ** Math.floor(Math.log2(v));
  while (p <= v) p *= 2;
  while (p / 2 > v) p /= 2;
  return p;
}
