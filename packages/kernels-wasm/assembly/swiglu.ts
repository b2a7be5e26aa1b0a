/**
 * silu(gate) * up = gate / (1 + e^-gate) * up. f32.
 * @module
 */
import { exp1, exp4 } from './exp';

export function swiglu(
  out: usize,
  outStride: usize,
  gate: usize,
  gateStride: usize,
  up: usize,
  upStride: usize,
  rows: i32,
  cols: i32,
): void {
  const whole = (<usize>(cols & ~3)) << 2;
  const bytes = (<usize>cols) << 2;
  const one = f32x4.splat(1);
  for (let r = 0; r < rows; r++) {
    let i: usize = 0;
    for (; i < whole; i += 16) {
      const g = v128.load(gate + i);
      const d = f32x4.add(one, exp4(f32x4.neg(g)));
      v128.store(out + i, f32x4.mul(f32x4.div(g, d), v128.load(up + i)));
    }
    for (; i < bytes; i += 4) {
      const g = load<f32>(gate + i);
      store<f32>(out + i, (g / (1 + exp1(-g))) * load<f32>(up + i));
    }
    out += outStride;
    gate += gateStride;
    up += upStride;
  }
}
