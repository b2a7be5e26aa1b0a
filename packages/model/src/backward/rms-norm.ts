/**
 * Gradient of the RMS norm (Zhang and Sennrich 2019): y = x̂ w with x̂ = r x, r = (mean(x²) + ε)^-½. With g = dy w: dx = r (g - x̂ mean(g x̂)),
 * and dw is the sum of dy x̂ over the rows. Double inside, on the calling thread: O(tokens · width).
 * @module
 */
import { type Handle, matrix, type Scope } from '@lmq/tensor';

/** What goes back through a norm. */
export interface RmsNormGradients {
  /** [rows, cols] */
  dx: Handle;
  /** [cols] */
  dWeight: Float32Array;
}

/**
 * @param x, dy [rows, cols]: the norm's input, and the gradient of its output
 * @param weight [1, cols]
 * @returns `dx` in `s`
 */
export async function rmsNormBackward(s: Scope, x: Handle, weight: Handle, dy: Handle, eps: number): Promise<RmsNormGradients> {
  const [{ data: xs }, { data: ws }, { data: dys }] = [await s.read(x), await s.read(weight), await s.read(dy)];
  const { rows, cols } = x;
  const dx = new Float32Array(xs.length);
  const dWeight = new Float64Array(cols);
  for (let r = 0, at = 0; r < rows; r++, at += cols) {
    let squares = 0;
    let along = 0; // Σ g x
    for (let c = 0; c < cols; c++) {
      const v = xs[at + c]!;
      squares += v * v;
      along += dys[at + c]! * ws[c]! * v;
    }
    const factor = 1 / Math.sqrt(squares / cols + eps);
    const share = (along * factor * factor) / cols;
    for (let c = 0; c < cols; c++) {
      const v = xs[at + c]!;
      const d = dys[at + c]!;
      dx[at + c] = factor * (d * ws[c]! - v * share);
      dWeight[c]! += d * v * factor;
    }
  }
  return { dx: s.upload(matrix(dx, rows, cols)), dWeight: Float32Array.from(dWeight) };
}
