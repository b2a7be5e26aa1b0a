/**
 * Matrix product on packed panels: C = beta C + alpha A B, 4 x 8 register tiles (8 accumulators, 2 vectors of B, 1 splat of A: 11 of
 * the 16 registers of x64). f32 accumulators along k, one multiplication and one addition each.
 *
 * A is packed in panels of 4 rows (4 values per k), B in panels of 8 columns (8 values per k), zero-padded: see pack.ts.
 * @module
 */
import { madd } from './fma';

/** One 4 x 8 tile. beta = 0 does not read C. */
function tile(k: i32, a: usize, b: usize, c: usize, stride: usize, alpha: f32, beta: f32): void {
  let c00 = f32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  const end = a + ((<usize>k) << 4);
  while (a < end) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let s = v128.load_splat<f32>(a);
    c00 = madd(s, b0, c00);
    c01 = madd(s, b1, c01);
    s = v128.load_splat<f32>(a, 4);
    c10 = madd(s, b0, c10);
    c11 = madd(s, b1, c11);
    s = v128.load_splat<f32>(a, 8);
    c20 = madd(s, b0, c20);
    c21 = madd(s, b1, c21);
    s = v128.load_splat<f32>(a, 12);
    c30 = madd(s, b0, c30);
    c31 = madd(s, b1, c31);
    a += 16;
    b += 32;
  }
  const va = f32x4.splat(alpha);
  c00 = f32x4.mul(c00, va);
  c01 = f32x4.mul(c01, va);
  c10 = f32x4.mul(c10, va);
  c11 = f32x4.mul(c11, va);
  c20 = f32x4.mul(c20, va);
  c21 = f32x4.mul(c21, va);
  c30 = f32x4.mul(c30, va);
  c31 = f32x4.mul(c31, va);
  const r1 = c + stride;
  const r2 = r1 + stride;
  const r3 = r2 + stride;
  if (beta != 0) {
    const vb = f32x4.splat(beta);
    c00 = madd(vb, v128.load(c), c00);
    c01 = madd(vb, v128.load(c, 16), c01);
    c10 = madd(vb, v128.load(r1), c10);
    c11 = madd(vb, v128.load(r1, 16), c11);
    c20 = madd(vb, v128.load(r2), c20);
    c21 = madd(vb, v128.load(r2, 16), c21);
    c30 = madd(vb, v128.load(r3), c30);
    c31 = madd(vb, v128.load(r3, 16), c31);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(r1, c10);
  v128.store(r1, c11, 16);
  v128.store(r2, c20);
  v128.store(r2, c21, 16);
  v128.store(r3, c30);
  v128.store(r3, c31, 16);
}

/**
 * Multiplies an [m, k] block of packed A with a [k, n] block of packed B into C.
 * @param edge 128 bytes: tiles that stick out of C are computed there
 * @param below tiles wholly above the line `column = row + below` are skipped (symmetric results); a large number skips none
 */
export function gemmBlock(
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  b: usize,
  c: usize,
  stride: usize,
  alpha: f32,
  beta: f32,
  edge: usize,
  below: i32,
): void {
  const aPanel = (<usize>k) << 4;
  const bPanel = (<usize>k) << 5;
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j);
    let pa = a;
    for (let i = 0; i < m; i += 4) {
      const height = min(4, m - i);
      if (j <= i + height - 1 + below) {
        const at = c + <usize>i * stride + ((<usize>j) << 2);
        if (height == 4 && width == 8) tile(k, pa, b, at, stride, alpha, beta);
        else {
          tile(k, pa, b, edge, 32, alpha, 0);
          for (let r = 0; r < height; r++) {
            const to = at + <usize>r * stride;
            const from = edge + ((<usize>r) << 5);
            for (let q: usize = 0; q < (<usize>width) << 2; q += 4) {
              const v = load<f32>(from + q);
              store<f32>(to + q, beta != 0 ? v + beta * load<f32>(to + q) : v);
            }
          }
        }
      }
      pa += aPanel;
    }
    b += bPanel;
  }
}
