/**
 * Range of a linear's input over calibration text, for an input that is quantized with a fixed scale (`InputQuant.static`).
 *
 * - `minmax`: the least and the greatest value.
 * - `moving-average`: of each batch's least and greatest value; the first batch counts whole, later ones `constant` of the difference (PyTorch's
 *   MovingAverageMinMaxObserver, llm-compressor). The only one that depends on how the stream is cut into batches.
 * - `percentile`: cut at a percentile of |x| (ONNX Runtime: 99.999).
 * - `mse`: the search of GPTQ's quantizer, candidates `1 - i / grid` of the range, least Σ |q(x) - x| ** norm over the histogram's bins.
 * - `kl`: cut where the histogram of |x| loses the least information, which TensorRT calls entropy: see `klThreshold`.
 *
 * Cuts shorten both ends to one magnitude; the search shortens both in proportion.
 * @module
 */
import { type InputGrid, inputGrid, inputLimits, rint } from '@lmq/formats';
import { type InputQuant, LmqError, matrix, matrixShape, type Tensor } from '@lmq/tensor';
import { stridesOf } from '../_rows.js';
import { createHistogramObserver, type Histogram, type HistogramObserver, histogramKl, histogramPercentile } from './histogram.js';
import { createMinMaxObserver } from './min-max.js';

const OP = 'activationObserver';

export type ActivationRangeMethod = 'minmax' | 'moving-average' | 'percentile' | 'mse' | 'kl';

export type ActivationRangeOpts =
  | { method: 'minmax' }
  /** `constant` in (0, 1]. Default 0.01. */
  | { method: 'moving-average'; constant?: number }
  /** `percentile` in (0, 100]. Default 99.999. */
  | { method: 'percentile'; percentile?: number }
  /** Defaults 2.4, 100 and 0.8; `maxShrink * grid` candidates. */
  | { method: 'mse'; norm?: number; grid?: number; maxShrink?: number }
  | { method: 'kl' };

export interface ActivationObserver {
  /** Values seen. */
  readonly count: number;
  /**
   * Adds a batch.
   * @param x [tokens, width]
   * @throws LmqError `argument/value` for NaN and infinity
   */
  add(x: Tensor): void;
  /** Least and greatest value of the grid to be. @throws LmqError `calibration/short` before the first value */
  read(symmetric: boolean): { min: number; max: number };
}

/**
 * Starts an observer.
 * @param opts a method, alone for its defaults
 * @throws LmqError `argument/option`
 */
export function createActivationObserver(opts: ActivationRangeMethod | ActivationRangeOpts = 'minmax'): ActivationObserver {
  const o = (typeof opts === 'string' ? { method: opts } : opts) as ActivationRangeOpts;
  switch (o.method) {
    case 'minmax':
      return minMax();
    case 'moving-average':
      return movingAverage(within('constant', o.constant ?? 0.01, 0, 1));
    case 'percentile': {
      const percentile = within('percentile', o.percentile ?? 99.999, 0, 100);
      return histogram((h, range) => cut(range, histogramPercentile(merged(h), percentile)));
    }
    case 'kl':
      return histogram((h, range) => cut(range, histogramKl(merged(h), 8)));
    case 'mse': {
      const { norm = 2.4, grid = 100, maxShrink = 0.8 } = o;
      within('norm', norm, 0, 8);
      within('grid', grid, 0, 10_000);
      within('maxShrink', maxShrink, 0, 1);
      return histogram((h, range, symmetric) => search(h, range, symmetric, norm, grid, maxShrink));
    }
    default:
      throw new LmqError('argument/option', 'unknown method', {
        op: OP,
        expected: 'minmax, moving-average, percentile, mse, kl',
        found: String((o as { method: unknown }).method),
      });
  }
}

/**
 * The input quantization that an observer's range makes. Inputs that were all zero get a scale of 1.
 * @throws LmqError `calibration/short` before the first value
 */
export function staticInput(observer: ActivationObserver, symmetric: boolean): InputQuant {
  const { min, max } = observer.read(symmetric);
  const { scale, zeroPoint } = inputGrid(min, max, symmetric);
  return { kind: 'int8', per: 'tensor', symmetric, static: { scale: scale || 1, zeroPoint } };
}

interface Range {
  min: number;
  max: number;
}

function minMax(): ActivationObserver {
  const seen = createMinMaxObserver();
  return {
    get count() {
      return seen.count;
    },
    add(x) {
      checkValues(x);
      seen.add(x);
    },
    read: () => seen.read(),
  };
}

function movingAverage(constant: number): ActivationObserver {
  let range: Range | undefined;
  let count = 0;
  return {
    get count() {
      return count;
    },
    add(x) {
      checkValues(x);
      const batch = createMinMaxObserver();
      batch.add(x);
      if (batch.count === 0) return;
      count += batch.count;
      const { min, max } = batch.read();
      range = range ? { min: range.min + constant * (min - range.min), max: range.max + constant * (max - range.max) } : { min, max };
    },
    read: () => range ?? nothingSeen(),
  };
}

/** Magnitudes on either side of zero, so that a grid's error is known on both; zeros are on every grid. */
interface Sides {
  positive: HistogramObserver;
  negative: HistogramObserver;
  zeros: HistogramObserver;
}

function histogram(choose: (h: Sides, range: Range, symmetric: boolean) => Range): ActivationObserver {
  const sides: Sides = { positive: createHistogramObserver(), negative: createHistogramObserver(), zeros: createHistogramObserver() };
  let count = 0;
  return {
    get count() {
      return count;
    },
    add(x) {
      const values = checkValues(x);
      const sorted = new Float32Array(values.length); // positive ones first, negative ones last, between them zeros
      let [from, to] = [0, values.length];
      for (const v of values) {
        if (v > 0) sorted[from++] = v;
        else if (v < 0) sorted[--to] = v;
      }
      const put = (side: HistogramObserver, kept: Float32Array) => side.add(matrix(kept, 1, kept.length));
      put(sides.positive, sorted.subarray(0, from));
      put(sides.negative, sorted.subarray(to));
      put(sides.zeros, sorted.subarray(from, to));
      count += values.length;
    },
    read(symmetric) {
      if (count === 0) return nothingSeen();
      return choose(sides, { min: -largest(sides.negative), max: largest(sides.positive) }, symmetric);
    },
  };
}

const largest = (side: HistogramObserver): number => (side.count > 0 ? side.read().absMax : 0);

/** The histogram of |x|. */
function merged({ positive, negative, zeros }: Sides): Histogram {
  const all = createHistogramObserver();
  for (const side of [positive, negative, zeros]) all.merge(side);
  return all.read();
}

function cut({ min, max }: Range, magnitude: number): Range {
  if (!(magnitude > 0)) return { min, max }; // nearly all are zero: the others stay
  return { min: Math.max(min, -magnitude), max: Math.min(max, magnitude) };
}

/** The best of the shorter ranges; of equals, the longest. */
function search(
  { positive, negative }: Sides,
  { min, max }: Range,
  symmetric: boolean,
  norm: number,
  steps: number,
  maxShrink: number,
): Range {
  let best = { min, max };
  let least = Number.POSITIVE_INFINITY;
  const [above, below] = [positive, negative].map((side) => (side.count > 0 ? side.read() : undefined));
  for (let i = 0; i < Math.max(1, Math.floor(maxShrink * steps + 1e-9)); i++) {
    const p = 1 - i / steps;
    const grid = inputGrid(p * min, p * max, symmetric);
    if (grid.scale === 0) return best;
    const error = gridError(above, 1, grid, symmetric, norm) + gridError(below, -1, grid, symmetric, norm);
    if (error < least) {
      least = error;
      best = { min: p * min, max: p * max };
    }
  }
  return best;
}

/** Σ |q(x) - x| ** norm over the middles of bins. */
function gridError(h: Histogram | undefined, sign: number, grid: InputGrid, symmetric: boolean, norm: number): number {
  if (!h) return 0;
  const [low, high] = inputLimits(grid, symmetric);
  let sum = 0;
  for (let k = 0; k < h.counts.length; k++) {
    if (h.counts[k] === 0) continue;
    const v = sign * Math.min((k + 0.5) * h.width, h.absMax);
    const q = Math.min(Math.max(rint(v / grid.scale), low), high) * grid.scale;
    sum += h.counts[k]! * Math.abs(q - v) ** norm;
  }
  return sum;
}

/** All values, row by row. @throws LmqError `argument/value` */
function checkValues(x: Tensor): Float32Array {
  const [rows, cols] = matrixShape(x, OP);
  const [rowStride, colStride] = stridesOf(x);
  const values = new Float32Array(rows * cols);
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) {
      values[i] = x.data[x.offset + r * rowStride + c * colStride]!;
      if (!Number.isFinite(values[i]))
        throw new LmqError('argument/value', 'an activation is not finite', { op: OP, found: `${values[i]} at [${r}, ${c}]` });
    }
  }
  return values;
}

function within(name: string, value: number, above: number, most: number): number {
  if (value > above && value <= most) return value;
  throw new LmqError('argument/option', `${name} is out of range`, { op: OP, expected: `above ${above}, at most ${most}`, found: value });
}

function nothingSeen(): never {
  throw new LmqError('calibration/short', 'no value was seen', { op: OP });
}
