/**
 * x / sqrt(mean(x²) + eps) * weight, per row. The sum of squares is f64 (2 lanes), the rest f32.
 * @module
 */

export function rmsNorm(out: usize, outStride: usize, x: usize, xStride: usize, weight: usize, rows: i32, cols: i32, eps: f64): void {
  const whole = (<usize>(cols & ~3)) << 2;
  const bytes = (<usize>cols) << 2;
  for (let r = 0; r < rows; r++) {
    let a = f64x2.splat(0);
    let b = a;
    let i: usize = 0;
    for (; i < whole; i += 16) {
      const v = v128.load(x + i);
      const lo = f64x2.promote_low_f32x4(v);
      const hi = f64x2.promote_low_f32x4(v128.shuffle<f32>(v, v, 2, 3, 2, 3));
      a = f64x2.add(a, f64x2.mul(lo, lo));
      b = f64x2.add(b, f64x2.mul(hi, hi));
    }
    a = f64x2.add(a, b);
    let s = f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
    for (; i < bytes; i += 4) {
      const v = <f64>load<f32>(x + i);
      s += v * v;
    }
    const f = <f32>(1.0 / sqrt(s / <f64>cols + eps));
    const vf = f32x4.splat(f);
    for (i = 0; i < whole; i += 16) v128.store(out + i, f32x4.mul(f32x4.mul(v128.load(x + i), vf), v128.load(weight + i)));
    for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) * f * load<f32>(weight + i));
    out += outStride;
    x += xStride;
  }
}
