/**
 * Matrix product of integers in 16 bits with f32 scales, on packed panels (packCodes.ts): C += Σ_chunks scales (A B), tiles of
 * CODE_ROWS x 8 of i32x4.dot_i16x8_s. A is packed in panels of CODE_ROWS rows, B in panels of 8 columns, two k at a time: 32 bits hold a row's codes at k and k + 1.
 *
 * The sum over a chunk (up to 256 k) is exact in i32: codes of A reach 32767, of B 255. It becomes f32, times the scale of A's row
 * and the scale of B's column there, and is added to C.
 *
 * Measured, hot panels, G operations/s with 4, 5 and 6 rows: EPYC (Zen 5) Node 20 98, 107, 75; Node 24 112, 110, 74. Xeon (Sapphire Rapids
 * class) Node 20 58, 65, 65; Node 24 62, 66, 65. But with the scaling of chunks around the loop, Node 20, which has no relaxed SIMD, keeps only the
 * sums of 4 rows in registers: 4096², 128 tokens, 51 ms with 4, 64 ms with 5; Node 24 47 ms with 5.
 * @module
 */
import { madd } from './fma';
import { own, workBytes } from './work';

/** Rows of a tile. */
export const CODE_ROWS: i32 = ASC_FEATURE_RELAXED_SIMD ? 5 : 4;

// @ts-ignore: decorator
@inline
function add(c: usize, acc: v128, scale: v128): void {
  v128.store(c, madd(f32x4.convert_i32x4_s(acc), scale, v128.load(c)));
}

// @ts-ignore: decorator
@inline
function addRow(c: usize, lo: v128, hi: v128, f0: v128, f1: v128, rowScale: usize): void {
  const s = v128.load_splat<f32>(rowScale);
  add(c, lo, f32x4.mul(f0, s));
  add(c + 16, hi, f32x4.mul(f1, s));
}

/**
 * One tile of CODE_ROWS x 8.
 * @param aScales rows' scales: CODE_ROWS f32 per 32 k, or per 16 where chunk is 16
 * @param bScales columns' scales: 8 f32 per chunk
 */
function tile(k: i32, chunk: i32, a: usize, aScales: usize, b: usize, bScales: usize, c: usize, stride: usize): void {
  const r1 = c + stride;
  const r2 = r1 + stride;
  const r3 = r2 + stride;
  const scalesStep = (chunk < 32 ? 1 : (<usize>chunk) >> 5) * (CODE_ROWS << 2);
  for (let from = 0; from < k; from += chunk) {
    let c00 = i32x4.splat(0);
    let c01 = c00;
    let c10 = c00;
    let c11 = c00;
    let c20 = c00;
    let c21 = c00;
    let c30 = c00;
    let c31 = c00;
    let c40 = c00;
    let c41 = c00;
    const end = a + (<usize>min(chunk, k - from)) * (CODE_ROWS << 1);
    while (a < end) {
      const b0 = v128.load(b);
      const b1 = v128.load(b, 16);
      let s = v128.load_splat<i32>(a);
      c00 = i32x4.add(c00, i32x4.dot_i16x8_s(s, b0));
      c01 = i32x4.add(c01, i32x4.dot_i16x8_s(s, b1));
      s = v128.load_splat<i32>(a, 4);
      c10 = i32x4.add(c10, i32x4.dot_i16x8_s(s, b0));
      c11 = i32x4.add(c11, i32x4.dot_i16x8_s(s, b1));
      s = v128.load_splat<i32>(a, 8);
      c20 = i32x4.add(c20, i32x4.dot_i16x8_s(s, b0));
      c21 = i32x4.add(c21, i32x4.dot_i16x8_s(s, b1));
      s = v128.load_splat<i32>(a, 12);
      c30 = i32x4.add(c30, i32x4.dot_i16x8_s(s, b0));
      c31 = i32x4.add(c31, i32x4.dot_i16x8_s(s, b1));
      if (ASC_FEATURE_RELAXED_SIMD) {
        s = v128.load_splat<i32>(a, 16);
        c40 = i32x4.add(c40, i32x4.dot_i16x8_s(s, b0));
        c41 = i32x4.add(c41, i32x4.dot_i16x8_s(s, b1));
      }
      a += CODE_ROWS << 2;
      b += 32;
    }
    const f0 = v128.load(bScales);
    const f1 = v128.load(bScales, 16);
    addRow(c, c00, c01, f0, f1, aScales);
    addRow(r1, c10, c11, f0, f1, aScales + 4);
    addRow(r2, c20, c21, f0, f1, aScales + 8);
    addRow(r3, c30, c31, f0, f1, aScales + 12);
    if (ASC_FEATURE_RELAXED_SIMD) addRow(r3 + stride, c40, c41, f0, f1, aScales + 16);
    bScales += 32;
    aScales += scalesStep;
  }
}

/**
 * C += A B for [m, k] of packed A and [k, n] of packed B; k is a multiple of 32.
 * @param a first panel of A at this k; panels are `aPanel` bytes apart, their scales `aScalesPanel`
 * @param bScalesPanel bytes from panel to panel of B's scales
 * @param work where tiles that stick out of C are computed
 */
export function gemmCodes(
  m: i32,
  n: i32,
  k: i32,
  chunk: i32,
  a: usize,
  aPanel: usize,
  aScales: usize,
  aScalesPanel: usize,
  b: usize,
  bScales: usize,
  bScalesPanel: usize,
  c: usize,
  stride: usize,
  work: usize,
): void {
  const edge = own(work, workBytes());
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j);
    let pa = a;
    let ps = aScales;
    for (let i = 0; i < m; i += CODE_ROWS) {
      const height = min(CODE_ROWS, m - i);
      const at = c + <usize>i * stride + ((<usize>j) << 2);
      if (height == CODE_ROWS && width == 8) tile(k, chunk, pa, ps, b, bScales, at, stride);
      else {
        memory.fill(edge, 0, 160);
        tile(k, chunk, pa, ps, b, bScales, edge, 32);
        for (let r = 0; r < height; r++) {
          const to = at + <usize>r * stride;
          const from = edge + ((<usize>r) << 5);
          for (let q: usize = 0; q < (<usize>width) << 2; q += 4) store<f32>(to + q, load<f32>(to + q) + load<f32>(from + q));
        }
      }
      pa += aPanel;
      ps += aScalesPanel;
    }
    b += (<usize>k) << 4;
    bScales += bScalesPanel;
  }
}
