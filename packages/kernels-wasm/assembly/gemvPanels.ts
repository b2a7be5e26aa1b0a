/**
 * One activation row times panels of 8 rows of a dense f32 weight (pack.ts), over a block of k: y[r] = x · w[r] (+ start[r]). Two panels at a
 * time; even and odd k add up apart.
 * @module
 */
import { madd } from './fma';

/** Writes up to 8 results. */
// @ts-ignore: decorator
@inline
function finish(y: usize, lo: v128, hi: v128, rows: i32, start: usize): void {
  if (rows >= 8) {
    if (start) {
      lo = f32x4.add(lo, v128.load(start));
      hi = f32x4.add(hi, v128.load(start, 16));
    }
    v128.store(y, lo);
    v128.store(y, hi, 16);
    return;
  }
  for (let r: usize = 0; r < <usize>rows; r++) {
    const v = r == 0 ? f32x4.extract_lane(lo, 0) : r == 1 ? f32x4.extract_lane(lo, 1) : r == 2 ? f32x4.extract_lane(lo, 2) : r == 3 ? f32x4.extract_lane(lo, 3) : r == 4 ? f32x4.extract_lane(hi, 0) : r == 5 ? f32x4.extract_lane(hi, 1) : f32x4.extract_lane(hi, 2);
    store<f32>(y + (r << 2), start ? v + load<f32>(start + (r << 2)) : v);
  }
}

/** One block of k. `start`: f32 [rows], which may be y, or 0. */
function block(y: usize, x: usize, w: usize, rows: i32, k: i32, start: usize): void {
  const panel = (<usize>k) << 5;
  let r = 0;
  for (; r + 8 < rows; r += 16) {
    let p = w;
    let q = w + panel;
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let b0 = a0;
    let b1 = a0;
    let b2 = a0;
    let b3 = a0;
    const pairs = x + ((<usize>(k & ~1)) << 2);
    let px = x;
    while (px < pairs) {
      let v = v128.load_splat<f32>(px);
      a0 = madd(v, v128.load(p), a0);
      a1 = madd(v, v128.load(p, 16), a1);
      a2 = madd(v, v128.load(q), a2);
      a3 = madd(v, v128.load(q, 16), a3);
      v = v128.load_splat<f32>(px, 4);
      b0 = madd(v, v128.load(p, 32), b0);
      b1 = madd(v, v128.load(p, 48), b1);
      b2 = madd(v, v128.load(q, 32), b2);
      b3 = madd(v, v128.load(q, 48), b3);
      px += 8;
      p += 64;
      q += 64;
    }
    if (k & 1) {
      const v = v128.load_splat<f32>(px);
      a0 = madd(v, v128.load(p), a0);
      a1 = madd(v, v128.load(p, 16), a1);
      a2 = madd(v, v128.load(q), a2);
      a3 = madd(v, v128.load(q, 16), a3);
    }
    finish(y, f32x4.add(a0, b0), f32x4.add(a1, b1), 8, start);
    finish(y + 32, f32x4.add(a2, b2), f32x4.add(a3, b3), rows - r - 8, start ? start + 32 : 0);
    y += 64;
    w += panel << 1;
    if (start) start += 64;
  }
  if (r < rows) {
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let b0 = a0;
    let b1 = a0;
    let i = 0;
    let p = w;
    for (; i + 2 <= k; i += 2) {
      const v = v128.load_splat<f32>(x);
      a0 = madd(v, v128.load(p), a0);
      a1 = madd(v, v128.load(p, 16), a1);
      const u = v128.load_splat<f32>(x, 4);
      b0 = madd(u, v128.load(p, 32), b0);
      b1 = madd(u, v128.load(p, 48), b1);
      x += 8;
      p += 64;
    }
    if (i < k) {
      const v = v128.load_splat<f32>(x);
      a0 = madd(v, v128.load(p), a0);
      a1 = madd(v, v128.load(p, 16), a1);
    }
    finish(y, f32x4.add(a0, b0), f32x4.add(a1, b1), rows - r, start);
  }
}

/**
 * Rows [from, from + rows) of a packed weight.
 * @param w f32 in blocks of `depth` columns, one after another, each in panels of 8 rows, of `padded` rows in all
 * @param from a multiple of 8
 * @param bias f32 [rows], or 0
 */
export function gemvPanels(y: usize, x: usize, w: usize, padded: i32, from: i32, rows: i32, k: i32, depth: i32, bias: usize): void {
  for (let c = 0; c < k; c += depth) {
    const kc = min(depth, k - c);
    block(y, x + ((<usize>c) << 2), w + ((<usize>c * <usize>padded + <usize>from * <usize>kc) << 2), rows, kc, bias);
    bias = y;
  }
}
