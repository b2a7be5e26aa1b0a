/**
 * Least and greatest value of a stream of tensors. Exact for any batch split and any order of merging.
 * @module
 */
import { LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { stridesOf } from '../_rows.js';
import { type Range, rangeOf } from '../range.js';

export interface MinMaxObserver {
  /** Values seen. */
  readonly count: number;
  add(x: Tensor): void;
  merge(other: MinMaxObserver): void;
  /** @throws LmqError `calibration/short` before the first value */
  read(): { min: number; max: number };
}

/** Starts an observer. NaN is not counted as an end of the range. */
export function createMinMaxObserver(): MinMaxObserver {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let count = 0;
  const range: Range = { min: 0, max: 0, signedMax: 0 };
  return {
    get count() {
      return count;
    },
    add(x) {
      const [rows, cols] = matrixShape(x, 'minMaxObserver');
      if (rows * cols === 0) return;
      const [rowStride, colStride] = stridesOf(x);
      rangeOf({ data: x.data, offset: x.offset, rows, rowStride, cols, colStride }, range);
      min = Math.min(min, range.min);
      max = Math.max(max, range.max);
      count += rows * cols;
    },
    merge(other) {
      if (other.count === 0) return;
      const o = other.read();
      min = Math.min(min, o.min);
      max = Math.max(max, o.max);
      count += other.count;
    },
    read() {
      if (count === 0) throw new LmqError('calibration/short', 'no value was seen', { op: 'minMaxObserver' });
      return { min, max };
    },
  };
}
