/**
 * One activation row, rounded to integers (quantizeInput.ts), times 4- or 8-bit affine weights, straight from the packed codes:
 * y[r] = Σ_chunks a_c s_g Σ x q - Σ_g s_g z_g Σ x (+ bias). The inner sum is exact in i32: a chunk of at most 256 columns adds up to
 * at most 256 * 32767 * 128 < 2^31. Per chunk it becomes f32 and is added, 4 lanes. 8-bit codes are read as q - 128.
 * @module
 */
import { madd } from './fma';
import { finish } from './gemvInt4';

/** 32 columns of 4-bit codes; x in nibble order. */
// @ts-ignore: decorator
@inline
function dot4(acc: v128, q: v128, x0: v128, x1: v128, x2: v128, x3: v128, low: v128): v128 {
  const a = i32x4.add(i32x4.dot_i16x8_s(x0, v128.and(q, low)), i32x4.dot_i16x8_s(x1, v128.and(i16x8.shr_u(q, 4), low)));
  const b = i32x4.add(i32x4.dot_i16x8_s(x2, v128.and(i16x8.shr_u(q, 8), low)), i32x4.dot_i16x8_s(x3, i16x8.shr_u(q, 12)));
  return i32x4.add(acc, i32x4.add(a, b));
}

/** 32 columns of 8-bit codes at p; x in order. */
// @ts-ignore: decorator
@inline
function dot8(acc: v128, p: usize, x0: v128, x1: v128, x2: v128, x3: v128, flip: v128): v128 {
  const q = v128.xor(v128.load(p), flip);
  const r = v128.xor(v128.load(p, 16), flip);
  const a = i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_low_i8x16_s(q)), i32x4.dot_i16x8_s(x1, i16x8.extend_high_i8x16_s(q)));
  const b = i32x4.add(i32x4.dot_i16x8_s(x2, i16x8.extend_low_i8x16_s(r)), i32x4.dot_i16x8_s(x3, i16x8.extend_high_i8x16_s(r)));
  return i32x4.add(acc, i32x4.add(a, b));
}

// @ts-ignore: decorator
@inline
function dot(acc: v128, p: usize, x0: v128, x1: v128, x2: v128, x3: v128, constant: v128, bits: i32): v128 {
  return bits == 4 ? dot4(acc, v128.load(p), x0, x1, x2, x3, constant) : dot8(acc, p, x0, x1, x2, x3, constant);
}

// @ts-ignore: decorator
@inline
function scaled(t: v128, acc: v128, scale: usize, inputScale: v128): v128 {
  return madd(f32x4.convert_i32x4_s(acc), f32x4.mul(v128.load_splat<f32>(scale), inputScale), t);
}

// @ts-ignore: decorator
@inline
function rowsTimes(
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
  chunk: i32,
  bias: usize,
  bits: i32,
): void {
  const constant = bits == 4 ? i16x8.splat(15) : i8x16.splat(-128);
  const base: f32 = bits == 4 ? 0 : 128;
  const size: usize = bits == 4 ? 16 : 32; // bytes of 32 codes
  const groups = (k + groupSize - 1) / groupSize;
  const nothing = i32x4.splat(0);
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    let p0 = codes;
    let p1 = p0 + stride;
    let p2 = p1 + stride;
    let p3 = p2 + stride;
    let s = scales;
    let px = x;
    let t0 = f32x4.splat(0);
    let t1 = t0;
    let t2 = t0;
    let t3 = t0;
    let left = groupSize;
    for (let c = 0; c < k; c += chunk) {
      let n = (min(chunk, k - c) + 31) >> 5;
      let a0 = nothing;
      let a1 = nothing;
      let a2 = nothing;
      let a3 = nothing;
      for (; n > 0; n--) {
        const x0 = v128.load(px);
        const x1 = v128.load(px, 16);
        const x2 = v128.load(px, 32);
        const x3 = v128.load(px, 48);
        a0 = dot(a0, p0, x0, x1, x2, x3, constant, bits);
        a1 = dot(a1, p1, x0, x1, x2, x3, constant, bits);
        a2 = dot(a2, p2, x0, x1, x2, x3, constant, bits);
        a3 = dot(a3, p3, x0, x1, x2, x3, constant, bits);
        px += 64;
        p0 += size;
        p1 += size;
        p2 += size;
        p3 += size;
      }
      const f = v128.load_splat<f32>(inputScales + ((<usize>c >> 5) << 2));
      t0 = scaled(t0, a0, s, f);
      t1 = scaled(t1, a1, s + scalesStride, f);
      t2 = scaled(t2, a2, s + (scalesStride << 1), f);
      t3 = scaled(t3, a3, s + scalesStride * 3, f);
      left -= chunk;
      if (left <= 0) {
        left = groupSize;
        s += 4;
      }
    }
    finish(y, t0, scales, zeros, zero, base, sums, groups, bias);
    finish(y + 4, t1, scales + scalesStride, zeros ? zeros + scalesStride : 0, zero, base, sums, groups, bias ? bias + 4 : 0);
    finish(y + 8, t2, scales + (scalesStride << 1), zeros ? zeros + (scalesStride << 1) : 0, zero, base, sums, groups, bias ? bias + 8 : 0);
    finish(y + 12, t3, scales + scalesStride * 3, zeros ? zeros + scalesStride * 3 : 0, zero, base, sums, groups, bias ? bias + 12 : 0);
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
    let t = f32x4.splat(0);
    let left = groupSize;
    for (let c = 0; c < k; c += chunk) {
      let n = (min(chunk, k - c) + 31) >> 5;
      let a = nothing;
      for (; n > 0; n--) {
        a = dot(a, p, v128.load(px), v128.load(px, 16), v128.load(px, 32), v128.load(px, 48), constant, bits);
        px += 64;
        p += size;
      }
      t = scaled(t, a, s, v128.load_splat<f32>(inputScales + ((<usize>c >> 5) << 2)));
      left -= chunk;
      if (left <= 0) {
        left = groupSize;
        s += 4;
      }
    }
    finish(y, t, scales, zeros, zero, base, sums, groups, bias);
    y += 4;
    codes += stride;
    scales += scalesStride;
    if (zeros) zeros += scalesStride;
    if (bias) bias += 4;
  }
}

/**
 * @param x codes in nibble order
 * @param inputScales one f32 per 32 columns
 * @param sums one f32 per group (inputSums)
 * @param codes rows of packed codes; 32 bytes behind the last row must be readable
 * @param zeros f32 like scales, or 0: every zero point is `zero`
 * @param groupSize a multiple of 32, or at least k
 * @param chunk a multiple of 32 up to 256 that divides groupSize, if that is below k; one scale of the input serves a chunk
 */
export function gemvCodes4(
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
  chunk: i32,
  bias: usize,
): void {
  rowsTimes(y, x, inputScales, sums, codes, stride, scales, zeros, scalesStride, zero, rows, k, groupSize, chunk, bias, 4);
}

/** As gemvCodes4; x in order. */
export function gemvCodes8(
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
  chunk: i32,
  bias: usize,
): void {
  rowsTimes(y, x, inputScales, sums, codes, stride, scales, zeros, scalesStride, zero, rows, k, groupSize, chunk, bias, 8);
}
