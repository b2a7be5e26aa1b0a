/**
 * Symmetric accumulation: h ← beta h + alpha Xᵀ X, both triangles. Each product is computed once, for the block row of its first index,
 * and applied to both of its places. Accumulator: double, ascending token; one rounding to float32 at the end.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { LINES, PANELS, packPanel, panelProduct } from './_panel.js';

/** h [n, n] ← beta h + alpha XᵀX, x [tokens, n]. A symmetric h stays symmetric to the bit. With `beta` 0 h is not read. */
export function syrk(h: Mat<Float32Array>, x: Mat<Float32Array>, alpha: number, beta: number): void {
  const n = x.cols;
  const steps = x.rows;
  const panel = steps * LINES;
  const left = new Float64Array(panel * PANELS);
  const right = new Float64Array(panel);
  const sums = new Float64Array(LINES * LINES);
  const { buffer: to, offset, stride } = h;
  const add = (r: number, c: number, sum: number) => {
    const o = offset + r * stride + c;
    to[o] = beta === 0 ? alpha * sum : alpha * sum + beta * to[o]!;
  };
  for (let r0 = 0; r0 < n; r0 += LINES * PANELS) {
    const height = Math.min(LINES * PANELS, n - r0);
    for (let r = 0; r < height; r += LINES)
      packPanel(left, (r / LINES) * panel, x.buffer, x.offset + r0 + r, 1, x.stride, Math.min(LINES, height - r), steps);
    for (let c0 = r0; c0 < n; c0 += LINES) {
      const cols = Math.min(LINES, n - c0);
      packPanel(right, 0, x.buffer, x.offset + c0, 1, x.stride, cols, steps);
      for (let r1 = 0; r1 < height && r0 + r1 <= c0; r1 += LINES) {
        panelProduct(sums, left, (r1 / LINES) * panel, right, 0, steps);
        const rows = Math.min(LINES, height - r1);
        for (let r = 0; r < rows; r++) {
          const i = r0 + r1 + r;
          for (let c = 0; c < cols; c++) {
            const j = c0 + c;
            if (j < i) continue; // the block on the diagonal holds both
            add(i, j, sums[r * LINES + c]!);
            if (j !== i) add(j, i, sums[r * LINES + c]!);
          }
        }
      }
    }
  }
}
