/**
 * One activation row times 8-bit affine weights, straight from the codes: y[r] = Σ_g s_g (Σ x (q - 128) - (z_g - 128) Σ x) (+ bias).
 *
 * 16 codes are 4 lanes of 4 bytes; with their top bits flipped they are q - 128 in two's complement. Byte j is shifted to the top of its
 * lane: as an integer it is (q - 128) 2^24, exact in f32, and x was multiplied by 2^-24 beforehand (prepare.ts). f32 accumulators, 4 lanes.
 * @module
 */
import { madd } from './fma';
import { finish } from './gemvInt4';
import { prepare } from './prepare';

/** Blocks of 16 columns: 64 bytes each, and `sums` f32 per group. */
export function prepareInt8(x: usize, k: i32, dst: usize, sums: usize, groupSize: i32): void {
  const f: f32 = 5.9604644775390625e-8; // 2^-24
  prepare(x, k, dst, 4, f, 1, f, sums, groupSize);
}

// @ts-ignore: decorator
@inline
function step(acc: v128, x: v128, codes: v128): v128 {
  return madd(x, f32x4.convert_i32x4_s(codes), acc);
}

/** As gemvInt4, with groupSize a multiple of 16, or at least k. */
export function gemvInt8(
  y: usize,
  x: usize,
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
  const flip = i8x16.splat(-128);
  const mask = i32x4.splat(0xff000000);
  const groups = (k + groupSize - 1) / groupSize;
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
    for (let c = 0; c < k; c += groupSize) {
      let n = (min(groupSize, k - c) + 15) >> 4;
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      for (; n > 0; n--) {
        const q0 = v128.xor(v128.load(p0), flip);
        const q1 = v128.xor(v128.load(p1), flip);
        const q2 = v128.xor(v128.load(p2), flip);
        const q3 = v128.xor(v128.load(p3), flip);
        let v = v128.load(px);
        a0 = step(a0, v, i32x4.shl(q0, 24));
        a1 = step(a1, v, i32x4.shl(q1, 24));
        a2 = step(a2, v, i32x4.shl(q2, 24));
        a3 = step(a3, v, i32x4.shl(q3, 24));
        v = v128.load(px, 16);
        a0 = step(a0, v, v128.and(i32x4.shl(q0, 16), mask));
        a1 = step(a1, v, v128.and(i32x4.shl(q1, 16), mask));
        a2 = step(a2, v, v128.and(i32x4.shl(q2, 16), mask));
        a3 = step(a3, v, v128.and(i32x4.shl(q3, 16), mask));
        v = v128.load(px, 32);
        a0 = step(a0, v, v128.and(i32x4.shl(q0, 8), mask));
        a1 = step(a1, v, v128.and(i32x4.shl(q1, 8), mask));
        a2 = step(a2, v, v128.and(i32x4.shl(q2, 8), mask));
        a3 = step(a3, v, v128.and(i32x4.shl(q3, 8), mask));
        v = v128.load(px, 48);
        a0 = step(a0, v, v128.and(q0, mask));
        a1 = step(a1, v, v128.and(q1, mask));
        a2 = step(a2, v, v128.and(q2, mask));
        a3 = step(a3, v, v128.and(q3, mask));
        px += 64;
        p0 += 16;
        p1 += 16;
        p2 += 16;
        p3 += 16;
      }
      t0 = madd(a0, v128.load_splat<f32>(s), t0);
      t1 = madd(a1, v128.load_splat<f32>(s + scalesStride), t1);
      t2 = madd(a2, v128.load_splat<f32>(s + (scalesStride << 1)), t2);
      t3 = madd(a3, v128.load_splat<f32>(s + scalesStride * 3), t3);
      s += 4;
    }
    finish(y, t0, scales, zeros, zero, 128, sums, groups, bias);
    finish(y + 4, t1, scales + scalesStride, zeros ? zeros + scalesStride : 0, zero, 128, sums, groups, bias ? bias + 4 : 0);
    finish(y + 8, t2, scales + (scalesStride << 1), zeros ? zeros + (scalesStride << 1) : 0, zero, 128, sums, groups, bias ? bias + 8 : 0);
    finish(y + 12, t3, scales + scalesStride * 3, zeros ? zeros + scalesStride * 3 : 0, zero, 128, sums, groups, bias ? bias + 12 : 0);
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
    for (let c = 0; c < k; c += groupSize) {
      let n = (min(groupSize, k - c) + 15) >> 4;
      let a = f32x4.splat(0);
      for (; n > 0; n--) {
        const q = v128.xor(v128.load(p), flip);
        a = step(a, v128.load(px), i32x4.shl(q, 24));
        a = step(a, v128.load(px, 16), v128.and(i32x4.shl(q, 16), mask));
        a = step(a, v128.load(px, 32), v128.and(i32x4.shl(q, 8), mask));
        a = step(a, v128.load(px, 48), v128.and(q, mask));
        px += 64;
        p += 16;
      }
      t = madd(a, v128.load_splat<f32>(s), t);
      s += 4;
    }
    finish(y, t, scales, zeros, zero, 128, sums, groups, bias);
    y += 4;
    codes += stride;
    scales += scalesStride;
    if (zeros) zeros += scalesStride;
    if (bias) bias += 4;
  }
}
