/**
 * Adds rows into rows: into[rows[i]] += factors[i] * a[i]. Product and sum in double, rounded to float32 once per row added; rows that
 * repeat are added in order.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** Without factors every factor is 1. */
export function scatterAdd(into: Mat<Float32Array>, a: Mat<Float32Array>, rows: Int32Array, factors: Float32Array | null): void {
  for (let i = 0; i < a.rows; i++) {
    const factor = factors ? factors[i]! : 1;
    const from = a.offset + i * a.stride;
    const to = into.offset + rows[i]! * into.stride;
    for (let j = 0; j < a.cols; j++) into.buffer[to + j]! += factor * a.buffer[from + j]!;
  }
}
