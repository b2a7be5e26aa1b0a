/**
 * into += alpha * a. Product and sum in double, one rounding to float32.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** `a` may be `into` itself. */
export function addTo(into: Mat<Float32Array>, a: Mat<Float32Array>, alpha: number): void {
  for (let i = 0; i < a.rows; i++) {
    const from = a.offset + i * a.stride;
    const to = into.offset + i * into.stride;
    for (let j = 0; j < a.cols; j++) into.buffer[to + j]! += alpha * a.buffer[from + j]!;
  }
}
