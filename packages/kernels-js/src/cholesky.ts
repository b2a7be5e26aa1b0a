/**
 * Cholesky factor of a positive definite matrix, A = L Lᵀ, left-looking by blocks of 32 columns: the part of each inner product that
 * lies left of the block goes through packed panels, the rest is scalar. Accumulator: double, ascending k; L is rounded to float32 as it
 * is stored and used so rounded. n³ / 6 multiplications.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { LINES, PANELS, packPanel, panelProduct } from './_panel.js';

/**
 * Writes lower L, with zeros above the diagonal. Reads the lower triangle of `a`.
 * @returns false when a pivot is not positive and finite: `a` is not positive definite, and `out` is not to be used
 */
export function cholesky(out: Mat<Float32Array>, a: Mat<Float32Array>): boolean {
  const n = a.rows;
  const block = LINES * PANELS;
  const { buffer: to, offset, stride } = out;
  for (let i = 0; i < n; i++) to.fill(0, offset + i * stride, offset + i * stride + n);
  const right = new Float64Array(n * block);
  const left = new Float64Array(n * LINES);
  const sums = new Float64Array(LINES * LINES);
  const products = new Float64Array(LINES * block); // of four rows with the block's columns

  for (let j0 = 0; j0 < n; j0 += block) {
    const width = Math.min(block, n - j0);
    const panel = j0 * LINES;
    for (let c = 0; c < width; c += LINES)
      packPanel(right, (c / LINES) * panel, to, offset + (j0 + c) * stride, stride, 1, Math.min(LINES, width - c), j0);

    for (let i0 = j0; i0 < n; i0 += LINES) {
      const rows = Math.min(LINES, n - i0);
      packPanel(left, 0, to, offset + i0 * stride, stride, 1, rows, j0);
      for (let c = 0; c < width; c += LINES) {
        panelProduct(sums, left, 0, right, (c / LINES) * panel, j0);
        for (let r = 0; r < LINES; r++) for (let q = 0; q < LINES; q++) products[r * block + c + q] = sums[r * LINES + q]!;
      }
      for (let r = 0; r < rows; r++) {
        const i = i0 + r;
        const rowI = offset + i * stride;
        for (let j = j0; j < j0 + width && j <= i; j++) {
          const rowJ = offset + j * stride;
          let sum = products[r * block + j - j0]!;
          for (let k = j0; k < j; k++) sum += to[rowI + k]! * to[rowJ + k]!;
          const rest = a.buffer[a.offset + i * a.stride + j]! - sum;
          if (j < i) {
            to[rowI + j] = rest / to[rowJ + j]!;
            continue;
          }
          const pivot = Math.fround(Math.sqrt(rest));
          if (!(pivot > 0 && pivot < Number.POSITIVE_INFINITY)) return false;
          to[rowI + i] = pivot;
        }
      }
    }
  }
  return true;
}
