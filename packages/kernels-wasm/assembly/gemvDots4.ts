/**
 * As gemvCodes4, for inputs of 8 bits, with relaxed SIMD's dot product of bytes: 16 products an instruction instead of 8. Its second operand has
 * to stay within 0 … 127; codes of 4 bits do, so the result is the same on every engine, and the sum over 32 columns is exact.
 * @module
 */
import { madd } from './fma';
import { finish } from './gemvInt4';

/**
 * Narrows rounded inputs to bytes in the order of 4-bit codes: of 32 columns, first the 16 even ones (low nibbles), then the odd ones.
 * @param codes i16 within ±127, whole blocks of 32 columns
 * @param dst i8, as many; not where `codes` is
 */
export function bytesInput(codes: usize, k: i32, dst: usize): void {
  const low = i16x8.splat(0xff);
  for (let c = 0; c < k; c += 32) {
    const a = v128.load(codes);
    const b = v128.load(codes, 16);
    const d = v128.load(codes, 32);
    const e = v128.load(codes, 48);
    const ab = i8x16.narrow_i16x8_s(a, b);
    const de = i8x16.narrow_i16x8_s(d, e);
    v128.store(dst, i8x16.narrow_i16x8_u(v128.and(ab, low), v128.and(de, low)));
    v128.store(dst, i8x16.narrow_i16x8_u(i16x8.shr_u(ab, 8), i16x8.shr_u(de, 8)), 16);
    codes += 64;
    dst += 32;
  }
}

// @ts-ignore: decorator
@inline
function block(t: v128, p: usize, even: v128, odd: v128, low: v128, scale: usize, inputScale: v128): v128 {
  const q = v128.load(p);
  let a = i32x4.relaxed_dot_i8x16_i7x16_add_s(even, v128.and(q, low), i32x4.splat(0));
  a = i32x4.relaxed_dot_i8x16_i7x16_add_s(odd, v128.and(i16x8.shr_u(q, 4), low), a);
  return madd(f32x4.convert_i32x4_s(a), f32x4.mul(v128.load_splat<f32>(scale), inputScale), t);
}

/**
 * @param x i8 from bytesInput
 * @param inputScales one f32 per 32 columns
 * @param sums one f32 per group (inputSums)
 * @param codes rows of packed codes; 16 bytes behind the last row must be readable
 * @param zeros f32 like scales, or 0: every zero point is `zero`
 * @param groupSize a multiple of 32, or at least k
 */
export function gemvDots4(
  y: usize,
  x: usize,
  inputScales: usize,
  sums: usize,
  codes: usize,
  stride: usize,
  scales: usize,
  zeros: usize,
  scalesStride: usize,
  zero: f32,
  rows: i32,
  k: i32,
  groupSize: i32,
  bias: usize,
): void {
  const low = i8x16.splat(15);
  const groups = (k + groupSize - 1) / groupSize;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    let p0 = codes;
    let p1 = p0 + stride;
    let p2 = p1 + stride;
    let p3 = p2 + stride;
    const s1 = scalesStride;
    const s2 = scalesStride << 1;
    const s3 = scalesStride * 3;
    let s = scales;
    let px = x;
    let f = inputScales;
    let t0 = f32x4.splat(0);
    let t1 = t0;
    let t2 = t0;
    let t3 = t0;
    let left = groupSize;
    for (let c = 0; c < k; c += 32) {
      const even = v128.load(px);
      const odd = v128.load(px, 16);
      const by = v128.load_splat<f32>(f);
      t0 = block(t0, p0, even, odd, low, s, by);
      t1 = block(t1, p1, even, odd, low, s + s1, by);
      t2 = block(t2, p2, even, odd, low, s + s2, by);
      t3 = block(t3, p3, even, odd, low, s + s3, by);
      px += 32;
      f += 4;
      p0 += 16;
      p1 += 16;
      p2 += 16;
      p3 += 16;
      left -= 32;
      if (left <= 0) {
        left = groupSize;
        s += 4;
      }
    }
    finish(y, t0, scales, zeros, zero, 0, sums, groups, bias);
    finish(y + 4, t1, scales + s1, zeros ? zeros + s1 : 0, zero, 0, sums, groups, bias ? bias + 4 : 0);
    finish(y + 8, t2, scales + s2, zeros ? zeros + s2 : 0, zero, 0, sums, groups, bias ? bias + 8 : 0);
    finish(y + 12, t3, scales + s3, zeros ? zeros + s3 : 0, zero, 0, sums, groups, bias ? bias + 12 : 0);
    y += 16;
    codes += stride << 2;
    scales += scalesStride << 2;
    if (zeros) zeros += scalesStride << 2;
    if (bias) bias += 16;
  }
  for (; r < rows; r++) {
    let p = codes;
    let s = scales;
    let px = x;
    let f = inputScales;
    let t = f32x4.splat(0);
    let left = groupSize;
    for (let c = 0; c < k; c += 32) {
      t = block(t, p, v128.load(px), v128.load(px, 16), low, s, v128.load_splat<f32>(f));
      px += 32;
      f += 4;
      p += 16;
      left -= 32;
      if (left <= 0) {
        left = groupSize;
        s += 4;
      }
    }
    finish(y, t, scales, zeros, zero, 0, sums, groups, bias);
    y += 4;
    codes += stride;
    scales += scalesStride;
    if (zeros) zeros += scalesStride;
    if (bias) bias += 4;
  }
}
