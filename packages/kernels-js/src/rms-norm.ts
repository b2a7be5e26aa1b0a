/**
 * Root-mean-square normalization (Zhang and Sennrich 2019): x / sqrt(mean(x²) + eps) * weight, per row. Sum of squares and product in
 * double, one rounding to float32.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** weight [1, cols]. */
export function rmsNorm(out: Mat<Float32Array>, x: Mat<Float32Array>, weight: Mat<Float32Array>, eps: number): void {
  for (let r = 0; r < x.rows; r++) {
    const from = x.offset + r * x.stride;
    const to = out.offset + r * out.stride;
    let squares = 0;
    for (let c = 0; c < x.cols; c++) squares += x.buffer[from + c]! ** 2;
    const factor = 1 / Math.sqrt(squares / x.cols + eps);
    for (let c = 0; c < x.cols; c++) out.buffer[to + c] = x.buffer[from + c]! * factor * weight.buffer[weight.offset + c]!;
  }
}
