/**
 * What becomes of a tensor when a model is stored otherwise.
 * @module
 */
import type { TensorInfo } from '@lmq/checkpoints';
import { decodeRows, layoutName } from '@lmq/formats';
import type { CompressedTensor } from '@lmq/tensor';

/**
 * `same`: the stored bits stay. `exact`: other bits, the same values. `rounded`: other values; `error` says how far off. `refused`: cannot be
 * stored; `detail` says why.
 */
export interface Change {
  tensor: string;
  from: string;
  to: string;
  effect: 'same' | 'exact' | 'rounded' | 'refused';
  /** Squared error relative to the values' squares. */
  error?: number;
  detail?: string;
}

/** What storing `before` as `after` does. */
export function changeOf(tensor: string, info: TensorInfo, before: CompressedTensor, after: CompressedTensor): Change {
  const change = { tensor, from: info.format, to: layoutName(after) };
  if (before === after) return { ...change, effect: 'same' };
  const error = relativeError(after, before);
  return error === 0 ? { ...change, effect: 'exact' } : { ...change, effect: 'rounded', error };
}

/** Rows decoded at a time. */
const TILE = 64;

/** Sum of squared differences over the sum of squares of `base`, in double; 0 for equal values, also where all are 0. */
export function relativeError(t: CompressedTensor, base: CompressedTensor): number {
  const [rows, cols] = base.shape;
  const a = new Float32Array(Math.min(TILE, rows) * cols);
  const b = new Float32Array(a.length);
  let error = 0;
  let norm = 0;
  for (let r = 0; r < rows; r += TILE) {
    const end = Math.min(rows, r + TILE);
    decodeRows(t, r, end, a);
    decodeRows(base, r, end, b);
    for (let i = 0; i < (end - r) * cols; i++) {
      error += (a[i]! - b[i]!) ** 2;
      norm += b[i]! ** 2;
    }
  }
  return error === 0 ? 0 : error / norm;
}
