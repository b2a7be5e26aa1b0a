/**
 * Softmax of each row, maximum subtracted. Exponentials and their sum in double, one rounding to float32.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** A row may hold -Infinity (probability 0), but not only -Infinity. */
export function softmax(out: Mat<Float32Array>, x: Mat<Float32Array>): void {
  for (let r = 0; r < x.rows; r++) {
    const from = x.offset + r * x.stride;
    const to = out.offset + r * out.stride;
    let max = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < x.cols; c++) max = Math.max(max, x.buffer[from + c]!);
    let total = 0;
    for (let c = 0; c < x.cols; c++) total += Math.exp(x.buffer[from + c]! - max);
    for (let c = 0; c < x.cols; c++) out.buffer[to + c] = Math.exp(x.buffer[from + c]! - max) / total;
  }
}
