/**
 * As gemvCodes8, for weights whose scales change every 16 columns (Q6_K), and that have no zero points left: two exact sums of 16 per 32 columns.
 * y[r] = Σ_32 a_c (s_2c Σ x q + s_2c+1 Σ x q) (+ bias). Codes are read as q - 128.
 * @module
 */
import { madd } from './fma';
import { total } from './gemv';

// @ts-ignore: decorator
@inline
function half(t: v128, p: usize, x0: v128, x1: v128, flip: v128, scale: usize, inputScale: v128): v128 {
  const q = v128.xor(v128.load(p), flip);
  const a = i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_low_i8x16_s(q)), i32x4.dot_i16x8_s(x1, i16x8.extend_high_i8x16_s(q)));
  return madd(f32x4.convert_i32x4_s(a), f32x4.mul(v128.load_splat<f32>(scale), inputScale), t);
}

/**
 * @param x codes in order, k of them, a multiple of 32
 * @param inputScales one f32 per 32 columns
 * @param scales f32, one per 16 columns
 */
export function gemvCodesHalves(
  y: usize,
  x: usize,
  inputScales: usize,
  codes: usize,
  stride: usize,
  scales: usize,
  scalesStride: usize,
  rows: i32,
  k: i32,
  bias: usize,
): void {
  const flip = i8x16.splat(-128);
  let r = 0;
  for (; r + 2 <= rows; r += 2) {
    const p1 = codes + stride;
    const s1 = scales + scalesStride;
    let t0 = f32x4.splat(0);
    let t1 = t0;
    let u0 = t0;
    let u1 = t0;
    let px = x;
    let f = inputScales;
    let s: usize = 0;
    for (let c: usize = 0; c < <usize>k; c += 32) {
      const by = v128.load_splat<f32>(f);
      let x0 = v128.load(px);
      let x1 = v128.load(px, 16);
      t0 = half(t0, codes + c, x0, x1, flip, scales + s, by);
      t1 = half(t1, p1 + c, x0, x1, flip, s1 + s, by);
      x0 = v128.load(px, 32);
      x1 = v128.load(px, 48);
      u0 = half(u0, codes + c + 16, x0, x1, flip, scales + s + 4, by);
      u1 = half(u1, p1 + c + 16, x0, x1, flip, s1 + s + 4, by);
      px += 64;
      f += 4;
      s += 8;
    }
    const v0 = total(f32x4.add(t0, u0));
    const v1 = total(f32x4.add(t1, u1));
    store<f32>(y, bias ? v0 + load<f32>(bias) : v0);
    store<f32>(y, bias ? v1 + load<f32>(bias, 4) : v1, 4);
    y += 8;
    if (bias) bias += 8;
    codes += stride << 1;
    scales += scalesStride << 1;
  }
  if (r < rows) {
    let t = f32x4.splat(0);
    let u = t;
    let px = x;
    let f = inputScales;
    let s: usize = 0;
    for (let c: usize = 0; c < <usize>k; c += 32) {
      const by = v128.load_splat<f32>(f);
      t = half(t, codes + c, v128.load(px), v128.load(px, 16), flip, scales + s, by);
      u = half(u, codes + c + 16, v128.load(px, 32), v128.load(px, 48), flip, scales + s + 4, by);
      px += 64;
      f += 4;
      s += 8;
    }
    const v = total(f32x4.add(t, u));
    store<f32>(y, bias ? v + load<f32>(bias) : v);
  }
}
