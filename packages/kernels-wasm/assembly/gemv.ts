/**
 * One activation row times a dense weight [rows, k]: y[r] = x · w[r] (+ bias). 4 weight rows at a time share the loads of x; each row has
 * two accumulators of 4 lanes. Tails go through one scalar sum.
 * @module
 */
import { madd } from './fma';
import { loadBrain, loadHalf, oneBrain, oneHalf } from './half';

/** Sum of the lanes, pairwise. */
// @ts-ignore: decorator
@inline
export function total(v: v128): f32 {
  const h = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(h, 0) + f32x4.extract_lane(h, 1);
}

// The three formats differ in their loads only; @inline with a constant `format` leaves one of them.
const F32 = 0;
const F16 = 1;

// @ts-ignore: decorator
@inline
function load4(p: usize, format: i32): v128 {
  return format == F32 ? v128.load(p) : format == F16 ? loadHalf(p) : loadBrain(p);
}
// @ts-ignore: decorator
@inline
function load1(p: usize, format: i32): f32 {
  return format == F32 ? load<f32>(p) : format == F16 ? oneHalf(p) : oneBrain(p);
}

// @ts-ignore: decorator
@inline
function rowsTimes(y: usize, x: usize, w: usize, stride: usize, rows: i32, k: i32, bias: usize, format: i32): void {
  const size: usize = format == F32 ? 4 : 2;
  const step = size << 2;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    let p0 = w;
    let p1 = p0 + stride;
    let p2 = p1 + stride;
    let p3 = p2 + stride;
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let b0 = a0;
    let b1 = a0;
    let b2 = a0;
    let b3 = a0;
    let px = x;
    let i = 0;
    for (; i + 8 <= k; i += 8) {
      let v = v128.load(px);
      a0 = madd(v, load4(p0, format), a0);
      a1 = madd(v, load4(p1, format), a1);
      a2 = madd(v, load4(p2, format), a2);
      a3 = madd(v, load4(p3, format), a3);
      v = v128.load(px, 16);
      b0 = madd(v, load4(p0 + step, format), b0);
      b1 = madd(v, load4(p1 + step, format), b1);
      b2 = madd(v, load4(p2 + step, format), b2);
      b3 = madd(v, load4(p3 + step, format), b3);
      px += 32;
      p0 += step << 1;
      p1 += step << 1;
      p2 += step << 1;
      p3 += step << 1;
    }
    let s0 = total(f32x4.add(a0, b0));
    let s1 = total(f32x4.add(a1, b1));
    let s2 = total(f32x4.add(a2, b2));
    let s3 = total(f32x4.add(a3, b3));
    for (; i < k; i++) {
      const v = load<f32>(px);
      s0 += v * load1(p0, format);
      s1 += v * load1(p1, format);
      s2 += v * load1(p2, format);
      s3 += v * load1(p3, format);
      px += 4;
      p0 += size;
      p1 += size;
      p2 += size;
      p3 += size;
    }
    if (bias) {
      s0 += load<f32>(bias);
      s1 += load<f32>(bias, 4);
      s2 += load<f32>(bias, 8);
      s3 += load<f32>(bias, 12);
      bias += 16;
    }
    store<f32>(y, s0);
    store<f32>(y, s1, 4);
    store<f32>(y, s2, 8);
    store<f32>(y, s3, 12);
    y += 16;
    w += stride << 2;
  }
  for (; r < rows; r++) {
    let a = f32x4.splat(0);
    let b = a;
    let p = w;
    let px = x;
    let i = 0;
    for (; i + 8 <= k; i += 8) {
      a = madd(v128.load(px), load4(p, format), a);
      b = madd(v128.load(px, 16), load4(p + step, format), b);
      px += 32;
      p += step << 1;
    }
    let s = total(f32x4.add(a, b));
    for (; i < k; i++) {
      s += load<f32>(px) * load1(p, format);
      px += 4;
      p += size;
    }
    if (bias) {
      s += load<f32>(bias);
      bias += 4;
    }
    store<f32>(y, s);
    y += 4;
    w += stride;
  }
}

/** @param bias f32 [rows], or 0 */
export function gemvFloat(y: usize, x: usize, w: usize, stride: usize, rows: i32, k: i32, bias: usize): void {
  rowsTimes(y, x, w, stride, rows, k, bias, F32);
}
export function gemvHalf(y: usize, x: usize, w: usize, stride: usize, rows: i32, k: i32, bias: usize): void {
  rowsTimes(y, x, w, stride, rows, k, bias, F16);
}
export function gemvBrain(y: usize, x: usize, w: usize, stride: usize, rows: i32, k: i32, bias: usize): void {
  rowsTimes(y, x, w, stride, rows, k, bias, 2);
}
