/**
 * Block scales shared by the layouts that have them: how many there are, their values, their rows gathered.
 * @module
 */
import { type FloatData, type FloatFormat, LmqError, type Scales } from '@lmq/tensor';
import { checkFloatData, decodeFloats } from './floats.js';

/** Rows and columns of the scale grid of a weight of `shape`: `[ceil(out / block[0]), ceil(in / block[1])]`. */
export function scaleGrid(scales: Scales, shape: readonly [number, number]): [rows: number, cols: number] {
  return [Math.ceil(shape[0] / scales.block[0]), Math.ceil(shape[1] / scales.block[1])];
}

/** Values of the scale rows that weight rows [from, to) use, float32, row-major from scale row `floor(from / block[0])`. */
export function scaleRows(scales: Scales, shape: readonly [number, number], from: number, to: number): Float32Array {
  const cols = scaleGrid(scales, shape)[1];
  const first = Math.floor(from / scales.block[0]);
  const last = Math.ceil(to / scales.block[0]);
  return decodeFloats(scales.format, scales.data, undefined, first * cols, last * cols);
}

/**
 * @throws LmqError `argument/shape` for a block or a count that does not fit, `argument/value` for the wrong kind of array or a scale that
 * is NaN or infinite
 */
export function validateScales(scales: Scales, shape: readonly [number, number], at: string): void {
  const op = 'validate';
  for (const axis of [0, 1] as const) {
    const n = scales.block[axis];
    if (!(Number.isInteger(n) && n >= 1 && n <= shape[axis])) {
      throw new LmqError('argument/shape', `${at}.block[${axis}] is out of range`, {
        op,
        expected: `an integer in 1 … ${shape[axis]}`,
        found: n,
      });
    }
  }
  checkFloatData(scales.format, scales.data, op);
  const [rows, cols] = scaleGrid(scales, shape);
  if (scales.data.length !== rows * cols) {
    throw new LmqError('argument/shape', `${at}.data has the wrong length`, {
      op,
      expected: `${rows} x ${cols} scales`,
      found: scales.data.length,
    });
  }
  const bad = firstNotFinite(scales.format, scales.data);
  if (bad >= 0) {
    throw new LmqError('argument/value', `${at}.data[${bad}] is not finite`, {
      op,
      found: decodeFloats(scales.format, scales.data, undefined, bad, bad + 1)[0],
    });
  }
}

/** Index of the first NaN or infinity, or -1. */
export function firstNotFinite(format: FloatFormat, data: FloatData): number {
  if (format === 'fp32') {
    for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return i;
    return -1;
  }
  const mask = format === 'fp16' ? 0x7c00 : 0x7f80; // the exponent field, all ones in NaN and infinity
  for (let i = 0; i < data.length; i++) if ((data[i] & mask) === mask) return i;
  return -1;
}

/** Gathered scales: which new block height, and which of the old scale rows, in order. */
export interface ScaleRowPlan {
  blockRows: number;
  rows: ArrayLike<number>;
}

/**
 * How to gather scales together with weight rows `index`. Blocks of several rows are kept where the gathered rows still fall into whole
 * blocks; otherwise every row gets scales of its own, with the same values.
 */
export function planScaleRows(blockRows: number, outRows: number, index: ArrayLike<number>): ScaleRowPlan {
  const n = index.length;
  if (blockRows === 1) return { blockRows, rows: index };
  if (blockRows >= outRows) return { blockRows: n, rows: [0] };
  const rows: number[] = [];
  for (let i = 0; i < n; i++) {
    const block = Math.floor(index[i] / blockRows);
    if (i % blockRows === 0) rows.push(block);
    else if (rows[rows.length - 1] !== block) return { blockRows: 1, rows: Array.from(index, (r) => Math.floor(r / blockRows)) };
  }
  return { blockRows: Math.min(blockRows, n), rows };
}

/** Scales of gathered weight rows. `cols` is the width of the scale grid. */
export function selectScaleRows(scales: Scales, cols: number, plan: ScaleRowPlan): Scales {
  return {
    block: [plan.blockRows, scales.block[1]],
    format: scales.format,
    data: gatherRows(scales.data, cols, plan.rows),
  };
}

/** Rows of `width` elements gathered from a row-major array into a new one. */
export function gatherRows<D extends FloatData | Uint8Array>(data: D, width: number, index: ArrayLike<number>): D {
  const out = new (data.constructor as new (n: number) => D)(index.length * width);
  for (let i = 0; i < index.length; i++) out.set(data.subarray(index[i] * width, (index[i] + 1) * width), i * width);
  return out;
}
