/**
 * Gathers rows and columns. Moves bits, computes nothing.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** out[i][j] = a[rows[i]][cols[j]]; null means all, in order. */
export function select(out: Mat<Float32Array>, a: Mat<Float32Array>, rows: Int32Array | null, cols: Int32Array | null): void {
  for (let i = 0; i < out.rows; i++) {
    const from = a.offset + (rows ? rows[i]! : i) * a.stride;
    const to = out.offset + i * out.stride;
    if (cols) for (let j = 0; j < out.cols; j++) out.buffer[to + j] = a.buffer[from + cols[j]!]!;
    else out.buffer.set(a.buffer.subarray(from, from + out.cols), to);
  }
}
