/** Inputs shared by the tests. */
import { type Matrix, matrix } from '@lmq/tensor';

/** Weights and inputs of golden/make_golden.py. */
export function lcgInputs(o: { hidden: number; wide: number; tokens: number; seed: number }) {
  let s = o.seed;
  const u = () => {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
  const bell = () => u() + u() + u() + u() - 2;
  const filled = (rows: number, cols: number, factor: (c: number) => number) => {
    const data = Float32Array.from({ length: rows * cols }, (_, i) => bell() * factor(i % cols));
    return matrix(data, rows, cols);
  };
  const [gate, up, down] = [[o.wide, o.hidden] as const, [o.wide, o.hidden] as const, [o.hidden, o.wide] as const].map(([r, c]) =>
    filled(r, c, () => 0.25),
  ) as [Matrix, Matrix, Matrix];
  const gain = Float64Array.from({ length: o.hidden }, () => 0.2 + 12 * u() ** 6);
  const x = filled(o.tokens, o.hidden, (c) => gain[c]!);
  return { gate, up, down, x };
}

/** x wᵀ, float64 sums. */
export function multiply(x: Matrix, w: Matrix): Matrix {
  const [tokens, width] = x.shape as [number, number];
  const out = w.shape[0]!;
  const y = new Float32Array(tokens * out);
  for (let t = 0; t < tokens; t++) {
    for (let o = 0; o < out; o++) {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x.data[t * width + c]! * w.data[o * width + c]!;
      y[t * out + o] = sum;
    }
  }
  return matrix(y, tokens, out);
}

/** silu(gate x) · up x. */
export function glu(x: Matrix, gate: Matrix, up: Matrix): Matrix {
  const [g, u] = [multiply(x, gate), multiply(x, up)];
  return matrix(
    g.data.map((v, i) => (v / (1 + Math.exp(-v))) * u.data[i]!),
    x.shape[0]!,
    gate.shape[0]!,
  );
}

/** Mean squared difference. */
export function meanSquare(a: Matrix, b: Matrix): number {
  return a.data.reduce((sum, v, i) => sum + (v - b.data[i]!) ** 2, 0) / a.data.length;
}

/** Xᵀ X, summed in float64. */
export function secondMoment(x: Matrix): Matrix {
  const [tokens, n] = x.shape as [number, number];
  const sum = new Float64Array(n * n);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < n; i++) {
      const v = x.data[t * n + i]!;
      for (let j = 0; j < n; j++) sum[i * n + j]! += v * x.data[t * n + j]!;
    }
  }
  return matrix(Float32Array.from(sum), n, n);
}

/** A number per channel of x. */
export function perChannel(x: Matrix, of: (values: number[]) => number): Float32Array {
  const [tokens, n] = x.shape as [number, number];
  return Float32Array.from({ length: n }, (_, c) => of(Array.from({ length: tokens }, (_, t) => Math.abs(x.data[t * n + c]!))));
}
export const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
export const largest = (values: number[]) => values.reduce((a, b) => Math.max(a, b), 0);
