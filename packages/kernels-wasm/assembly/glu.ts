/**
 * Gated linear units: activation(gate) * up, in f32. Both activations are x / (1 + e^-s): s = x is silu, and s = 2 √(2/π) (x + 0.044715 x³)
 * is the tanh approximation of gelu, as (1 + tanh(s / 2)) / 2 = 1 / (1 + e^-s). That form has no cancellation far below zero.
 * @module
 */
import { exp4 } from './exp';

/** -2 √(2/π), and that times 0.044715. */
const LINEAR: f32 = -1.5957691216057308;
const CUBIC: f32 = -0.07135481627260025;

// @ts-ignore: decorator
@inline
function gated(g: v128, up: v128, gelu: bool): v128 {
  const s = gelu
    ? f32x4.mul(g, f32x4.add(f32x4.splat(LINEAR), f32x4.mul(f32x4.splat(CUBIC), f32x4.mul(g, g))))
    : f32x4.neg(g);
  return f32x4.mul(f32x4.div(g, f32x4.add(f32x4.splat(1), exp4(s))), up);
}

// @ts-ignore: decorator
@inline
function glu(
  out: usize,
  outStride: usize,
  gate: usize,
  gateStride: usize,
  up: usize,
  upStride: usize,
  rows: i32,
  cols: i32,
  gelu: bool,
): void {
  const whole = (<usize>(cols & ~3)) << 2;
  const bytes = (<usize>cols) << 2;
  for (let r = 0; r < rows; r++) {
    let i: usize = 0;
    for (; i < whole; i += 16) v128.store(out + i, gated(v128.load(gate + i), v128.load(up + i), gelu));
    for (; i < bytes; i += 4) {
      v128.store_lane<f32>(out + i, gated(v128.load_splat<f32>(gate + i), v128.load_splat<f32>(up + i), gelu), 0);
    }
    out += outStride;
    gate += gateStride;
    up += upStride;
  }
}

export function gluSilu(o: usize, oStride: usize, g: usize, gStride: usize, u: usize, uStride: usize, rows: i32, cols: i32): void {
  glu(o, oStride, g, gStride, u, uStride, rows, cols, false);
}
export function gluGelu(o: usize, oStride: usize, g: usize, gStride: usize, u: usize, uStride: usize, rows: i32, cols: i32): void {
  glu(o, oStride, g, gStride, u, uStride, rows, cols, true);
}
