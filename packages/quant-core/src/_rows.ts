/**
 * Walking strided matrices by rows.
 * @module
 */
import { matrixShape, type Tensor } from '@lmq/tensor';

/** Rows that reports look at. */
export const PROXY_ROWS = 256;

/** Elements between rows and between columns; a 1-D tensor is one row. */
export function stridesOf(t: Tensor): [row: number, col: number] {
  return t.shape.length === 1 ? [0, t.stride[0]!] : [t.stride[0]!, t.stride[1]!];
}

/** At most `most` row numbers, evenly spaced from 0. */
export function spacedRows(rows: number, most: number): Int32Array {
  const n = Math.min(rows, Math.max(1, Math.floor(most)));
  return Int32Array.from({ length: n }, (_, i) => Math.floor((i * rows) / n));
}

/** Rows of a matrix as float64, row-major. */
export function gatherRows(t: Tensor, rows: Int32Array): Float64Array {
  const [, cols] = matrixShape(t, 'proxyLoss');
  const [rowStride, colStride] = stridesOf(t);
  const out = new Float64Array(rows.length * cols);
  for (let i = 0, to = 0; i < rows.length; i++) {
    let at = t.offset + rows[i]! * rowStride;
    for (let c = 0; c < cols; c++, at += colStride) out[to++] = t.data[at]!;
  }
  return out;
}

/** loss / whole, where nothing of nothing is no loss. */
export function ratio(loss: number, whole: number): number {
  return loss === 0 ? 0 : loss / whole;
}
