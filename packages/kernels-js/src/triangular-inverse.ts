/**
 * Inverse X of a lower triangular L by forward substitution, 32 rows at a time: X[i,j] = -(sum over k in [j, i) of L[i,k] X[k,j]) /
 * L[i,i]. Rows above the block go through packed panels, rows inside it are scalar. Accumulator: double, ascending k; X is rounded to
 * float32 as it is stored and used so rounded. n³ / 6 multiplications.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { LINES, PANELS, packPanel, panelProduct } from './_panel.js';

/** Writes L⁻¹, with zeros above the diagonal. Reads the lower triangle of `l`. A zero on the diagonal gives infinities, as 1 / 0 does. */
export function triangularInverse(out: Mat<Float32Array>, l: Mat<Float32Array>): void {
  const n = l.rows;
  const block = LINES * PANELS;
  const { buffer: to, offset, stride } = out;
  for (let i = 0; i < n; i++) to.fill(0, offset + i * stride, offset + i * stride + n);
  const left = new Float64Array(n * block);
  const right = new Float64Array(n * LINES);
  const sums = new Float64Array(LINES * LINES);
  const products = new Float64Array(block * n);

  for (let i0 = 0; i0 < n; i0 += block) {
    const height = Math.min(block, n - i0);
    const panel = i0 * LINES;
    for (let r = 0; r < height; r += LINES)
      packPanel(left, (r / LINES) * panel, l.buffer, l.offset + (i0 + r) * l.stride, l.stride, 1, Math.min(LINES, height - r), i0);
    for (let j = 0; j < i0; j += LINES) {
      const steps = i0 - j; // X[k,j] is zero for k < j
      packPanel(right, 0, to, offset + j * stride + j, 1, stride, LINES, steps);
      for (let r0 = 0; r0 < height; r0 += LINES) {
        panelProduct(sums, left, (r0 / LINES) * panel + j * LINES, right, 0, steps);
        for (let r = 0; r < LINES; r++) for (let q = 0; q < LINES; q++) products[(r0 + r) * n + j + q] = sums[r * LINES + q]!;
      }
    }
    for (let r = 0; r < height; r++) {
      const i = i0 + r;
      const row = l.offset + i * l.stride;
      const diagonal = l.buffer[row + i]!;
      for (let j = 0; j < i; j++) {
        let sum = j < i0 ? products[r * n + j]! : 0;
        for (let k = Math.max(j, i0); k < i; k++) sum += l.buffer[row + k]! * to[offset + k * stride + j]!;
        to[offset + i * stride + j] = -sum / diagonal;
      }
      to[offset + i * stride + i] = 1 / diagonal;
    }
  }
}
