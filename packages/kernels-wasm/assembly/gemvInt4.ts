/**
 * One activation row times 4-bit affine weights, straight from the packed codes: y[r] = Σ_g s_g (Σ x q - z_g Σ x) (+ bias).
 *
 * 32 codes are 4 lanes of 8 nibbles. Nibble j stays where it is in its lane, masked: as an integer it is q 16^j, exact in f32, and x was
 * multiplied by 16^-j beforehand (prepare.ts). So a vector of 4 weights costs and, convert, multiply, add. f32 accumulators, 4 lanes.
 * @module
 */
import { madd } from './fma';
import { total } from './gemv';
import { prepare, zeroPart } from './prepare';

/** Blocks of 32 columns: 128 bytes each, and `sums` f32 per group. */
export function prepareInt4(x: usize, k: i32, dst: usize, sums: usize, groupSize: i32): void {
  prepare(x, k, dst, 8, 1, 0.0625, 1, sums, groupSize);
}

// @ts-ignore: decorator
@inline
function masked(acc: v128, x: v128, codes: v128, mask: v128): v128 {
  return madd(x, f32x4.convert_i32x4_s(v128.and(codes, mask)), acc);
}
// @ts-ignore: decorator
@inline
function top(acc: v128, x: v128, codes: v128): v128 {
  return madd(x, f32x4.convert_i32x4_s(i32x4.shr_u(codes, 28)), acc);
}

/**
 * @param x prepared by prepareInt4 with the same groupSize
 * @param codes rows of packed codes; 16 bytes behind the last row must be readable
 * @param groupSize a multiple of 32, or at least k
 * @param zeros f32 like scales, or 0: every zero point is `zero`
 */
export function gemvInt4(
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
  const m0 = i32x4.splat(0x0000000f);
  const m1 = i32x4.splat(0x000000f0);
  const m2 = i32x4.splat(0x00000f00);
  const m3 = i32x4.splat(0x0000f000);
  const m4 = i32x4.splat(0x000f0000);
  const m5 = i32x4.splat(0x00f00000);
  const m6 = i32x4.splat(0x0f000000);
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
      let n = (min(groupSize, k - c) + 31) >> 5;
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      for (; n > 0; n--) {
        const q0 = v128.load(p0);
        const q1 = v128.load(p1);
        const q2 = v128.load(p2);
        const q3 = v128.load(p3);
        let v = v128.load(px);
        a0 = masked(a0, v, q0, m0);
        a1 = masked(a1, v, q1, m0);
        a2 = masked(a2, v, q2, m0);
        a3 = masked(a3, v, q3, m0);
        v = v128.load(px, 16);
        a0 = masked(a0, v, q0, m1);
        a1 = masked(a1, v, q1, m1);
        a2 = masked(a2, v, q2, m1);
        a3 = masked(a3, v, q3, m1);
        v = v128.load(px, 32);
        a0 = masked(a0, v, q0, m2);
        a1 = masked(a1, v, q1, m2);
        a2 = masked(a2, v, q2, m2);
        a3 = masked(a3, v, q3, m2);
        v = v128.load(px, 48);
        a0 = masked(a0, v, q0, m3);
        a1 = masked(a1, v, q1, m3);
        a2 = masked(a2, v, q2, m3);
        a3 = masked(a3, v, q3, m3);
        v = v128.load(px, 64);
        a0 = masked(a0, v, q0, m4);
        a1 = masked(a1, v, q1, m4);
        a2 = masked(a2, v, q2, m4);
        a3 = masked(a3, v, q3, m4);
        v = v128.load(px, 80);
        a0 = masked(a0, v, q0, m5);
        a1 = masked(a1, v, q1, m5);
        a2 = masked(a2, v, q2, m5);
        a3 = masked(a3, v, q3, m5);
        v = v128.load(px, 96);
        a0 = masked(a0, v, q0, m6);
        a1 = masked(a1, v, q1, m6);
        a2 = masked(a2, v, q2, m6);
        a3 = masked(a3, v, q3, m6);
        v = v128.load(px, 112);
        a0 = top(a0, v, q0);
        a1 = top(a1, v, q1);
        a2 = top(a2, v, q2);
        a3 = top(a3, v, q3);
        px += 128;
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
    finish(y, t0, scales, zeros, zero, 0, sums, groups, bias);
    finish(y + 4, t1, scales + scalesStride, zeros ? zeros + scalesStride : 0, zero, 0, sums, groups, bias ? bias + 4 : 0);
    finish(y + 8, t2, scales + (scalesStride << 1), zeros ? zeros + (scalesStride << 1) : 0, zero, 0, sums, groups, bias ? bias + 8 : 0);
    finish(y + 12, t3, scales + scalesStride * 3, zeros ? zeros + scalesStride * 3 : 0, zero, 0, sums, groups, bias ? bias + 12 : 0);
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
      let n = (min(groupSize, k - c) + 31) >> 5;
      let a = f32x4.splat(0);
      for (; n > 0; n--) {
        const q = v128.load(p);
        a = masked(a, v128.load(px), q, m0);
        a = masked(a, v128.load(px, 16), q, m1);
        a = masked(a, v128.load(px, 32), q, m2);
        a = masked(a, v128.load(px, 48), q, m3);
        a = masked(a, v128.load(px, 64), q, m4);
        a = masked(a, v128.load(px, 80), q, m5);
        a = masked(a, v128.load(px, 96), q, m6);
        a = top(a, v128.load(px, 112), q);
        px += 128;
        p += 16;
      }
      t = madd(a, v128.load_splat<f32>(s), t);
      s += 4;
    }
    finish(y, t, scales, zeros, zero, 0, sums, groups, bias);
    y += 4;
    codes += stride;
    scales += scalesStride;
    if (zeros) zeros += scalesStride;
    if (bias) bias += 4;
  }
}

/** Stores one result: lanes together, zero points taken away, bias added. `base` is the zero that the codes were already read with. */
export function finish(y: usize, t: v128, scales: usize, zeros: usize, zero: f32, base: f32, sums: usize, groups: i32, bias: usize): void {
  let v = total(t);
  if (zeros != 0 || zero != base) v -= zeroPart(scales, zeros, zero, base, sums, groups);
  store<f32>(y, bias ? v + load<f32>(bias) : v);
}
