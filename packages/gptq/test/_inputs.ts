/** Inputs shared by the tests: made by generators that are independent of the code under test. */
import { createRng, type Matrix, matrix } from '@lmq/tensor';

/** Weights and inputs whose channels are correlated (neighbours 0.9) and of unequal size, and their second moment. */
export function correlated(rows: number, cols: number, seed: number, tokens = 2 * cols): { w: Matrix; x: Matrix; h: Matrix } {
  const rng = createRng(seed);
  const w = Float32Array.from({ length: rows * cols }, () => rng.normal());
  const gain = Float64Array.from({ length: cols }, () => Math.exp(rng.normal()));
  const x = new Float32Array(tokens * cols);
  for (let t = 0; t < tokens; t++) {
    let carry = 0;
    for (let c = 0; c < cols; c++) {
      carry = 0.9 * carry + rng.normal();
      x[t * cols + c] = gain[c]! * carry;
    }
  }
  return { w: matrix(w, rows, cols), x: matrix(x, tokens, cols), h: matrix(secondMoment(x, cols, 1), cols, cols) };
}

/** factor · Xᵀ X, summed in float64. */
export const secondMoment = (x: Float32Array, cols: number, factor: number) => moment(x, x, cols, factor);

/** factor · Aᵀ B, summed in float64. */
export function moment(a: Float32Array, b: Float32Array, cols: number, factor: number): Float32Array {
  const sum = new Float64Array(cols * cols);
  for (let at = 0; at < a.length; at += cols) {
    for (let i = 0; i < cols; i++) {
      const v = a[at + i]!;
      for (let j = 0; j < cols; j++) sum[i * cols + j]! += v * b[at + j]!;
    }
  }
  return Float32Array.from(sum, (v) => v * factor);
}

/** Weights, Hessian and cross term of golden/make_golden.py. */
export function lcgInputs(o: { rows: number; cols: number; tokens: number; sequences: number; seed: number; dead: number }): {
  w: Matrix;
  h: Matrix;
  cross: Matrix;
} {
  let s = o.seed;
  const u = () => {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
  const bell = () => u() + u() + u() + u() - 2;
  const w = Float32Array.from({ length: o.rows * o.cols }, (_, i) => bell() * (i % o.cols === o.dead ? 3 : 1));
  const gain = Float64Array.from({ length: o.cols }, () => 0.25 + 2 * u() ** 2);
  const exact = new Float64Array(o.tokens * o.cols);
  for (let t = 0; t < o.tokens; t++) {
    let carry = 0;
    for (let c = 0; c < o.cols; c++) {
      carry = 0.7 * carry + bell();
      exact[t * o.cols + c] = c === o.dead ? 0 : gain[c]! * carry;
    }
  }
  const x = Float32Array.from(exact);
  const difference = new Float32Array(x.length);
  for (let t = 0; t < o.tokens; t++) {
    const shift = bell();
    for (let c = 0; c < o.cols; c++) {
      const i = t * o.cols + c;
      difference[i] = Math.fround(exact[i]! + gain[c]! * (0.3 * shift + 0.2 * bell())) - x[i]!;
    }
  }
  const h = matrix(secondMoment(x, o.cols, 2 / o.sequences), o.cols, o.cols);
  return { w: matrix(w, o.rows, o.cols), h, cross: matrix(moment(difference, x, o.cols, 2 / o.sequences), o.cols, o.cols) };
}
