/**
 * Matrix product on packed panels: C = beta C + alpha A B, register tiles of ROWS x 8: two accumulators a row, 2 vectors of B, 1 splat of A.
 * f32 accumulators along k, one multiplication and one addition each, so the shape of the tile does not change a bit of C.
 *
 * A is packed in panels of ROWS rows (ROWS values per k), B in panels of 8 columns (8 values per k), zero-padded: see pack.ts.
 *
 * Measured, hot panels, GFLOP/s with 4, 5 and 6 rows: EPYC (Zen 5) simd128 on Node 20 50, 59 to 64, 33; relaxed on Node 24 62, 62, 67. Xeon (Sapphire
 * Rapids class) simd128 on Node 24 34, 32, 27; relaxed 38, 43, 46. Six rows need all 16 registers of x64: that pays with fused multiply and add only.
 * @module
 */
import { madd } from './fma';
import { own, workBytes } from './work';

/** Rows of a tile. */
export const ROWS: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 5;

/**
 * One tile of ROWS x 8: A B, nothing else. With more in this function, the compiler of Node 20 keeps sums in memory instead of registers and
 * it runs at half the speed (measured); so alpha and beta are `merge`'s.
 */
function tile(k: i32, a: usize, b: usize, c: usize, stride: usize): void {
  let c00 = f32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  let c40 = c00;
  let c41 = c00;
  let c50 = c00;
  let c51 = c00;
  const end = a + <usize>k * (ROWS << 2);
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
    s = v128.load_splat<f32>(a, 16);
    c40 = madd(s, b0, c40);
    c41 = madd(s, b1, c41);
    if (ASC_FEATURE_RELAXED_SIMD) {
      s = v128.load_splat<f32>(a, 20);
      c50 = madd(s, b0, c50);
      c51 = madd(s, b1, c51);
    }
    a += ROWS << 2;
    b += 32;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  c += stride;
  v128.store(c, c10);
  v128.store(c, c11, 16);
  c += stride;
  v128.store(c, c20);
  v128.store(c, c21, 16);
  c += stride;
  v128.store(c, c30);
  v128.store(c, c31, 16);
  c += stride;
  v128.store(c, c40);
  v128.store(c, c41, 16);
  if (ASC_FEATURE_RELAXED_SIMD) {
    c += stride;
    v128.store(c, c50);
    v128.store(c, c51, 16);
  }
}

/** C ← beta C + alpha tile; the tile's rows are 32 bytes apart. beta = 0 does not read C. */
function merge(from: usize, height: i32, width: i32, c: usize, stride: usize, alpha: f32, beta: f32): void {
  if (width == 8) {
    const va = f32x4.splat(alpha);
    const vb = f32x4.splat(beta);
    for (let r = 0; r < height; r++) {
      let lo = f32x4.mul(va, v128.load(from));
      let hi = f32x4.mul(va, v128.load(from, 16));
      if (beta != 0) {
        lo = madd(vb, v128.load(c), lo);
        hi = madd(vb, v128.load(c, 16), hi);
      }
      v128.store(c, lo);
      v128.store(c, hi, 16);
      from += 32;
      c += stride;
    }
    return;
  }
  for (let r = 0; r < height; r++) {
    for (let q: usize = 0; q < (<usize>width) << 2; q += 4) {
      // as above, lane by lane: the same rounding wherever a value lies
      let v = f32x4.splat(alpha * load<f32>(from + q));
      if (beta != 0) v = madd(f32x4.splat(beta), v128.load_splat<f32>(c + q), v);
      store<f32>(c + q, f32x4.extract_lane(v, 0));
    }
    from += 32;
    c += stride;
  }
}

/**
 * Multiplies an [m, k] block of packed A with a [k, n] block of packed B into C.
 * @param work where tiles are computed that do not go into C as they are
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
  work: usize,
  below: i32,
): void {
  const edge = own(work, workBytes());
  const aPanel = <usize>k * (ROWS << 2);
  const bPanel = (<usize>k) << 5;
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j);
    let pa = a;
    for (let i = 0; i < m; i += ROWS) {
      const height = min(ROWS, m - i);
      if (j <= i + height - 1 + below) {
        const at = c + <usize>i * stride + ((<usize>j) << 2);
        if (height == ROWS && width == 8 && alpha == 1 && beta == 0) tile(k, pa, b, at, stride);
        else {
          tile(k, pa, b, edge, 32);
          merge(edge, height, width, at, stride, alpha, beta);
        }
      }
      pa += aPanel;
    }
    b += bPanel;
  }
}
