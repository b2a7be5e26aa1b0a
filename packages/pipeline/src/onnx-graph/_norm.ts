/**
 * Root mean square norm (Zhang and Sennrich 2019) in standard operators. ONNX Runtime finds the pattern and runs it as one kernel.
 * @module
 */
import type { Builder } from './_builder.js';

/** x [rows, width] → x / sqrt(mean(x²) + eps) * weight. */
export function rmsNorm(g: Builder, x: string, weight: string, eps: number, name: string): string {
  const square = g.op(name, 'Pow', [x, g.floats(2)]);
  const mean = g.op(name, 'ReduceMean', [square], { attributes: { axes: { ints: [-1] }, keepdims: { int: 1 } } });
  const root = g.op(name, 'Sqrt', [g.op(name, 'Add', [mean, g.floats(eps)])]);
  return g.op(name, 'Mul', [g.op(name, 'Div', [x, root]), weight]);
}
