/**
 * The inner product that gemm, syrk, Cholesky and the triangular inverse share: four lines against four lines, packed as doubles.
 * A panel holds four lines (rows or columns) interleaved step by step, so the loop reads both operands in order. Every sum is one chain
 * of double additions in ascending order of the steps, so a blocked product has the same bits as the naive one.
 * @module
 */

/** Lines in a panel. */
export const LINES = 4;

/** Panels packed together: a block of 32 lines stays in the cache while the other operand passes by. */
export const PANELS = 8;

/**
 * Packs up to four lines of `steps` elements: line r, step p is `from[offset + r * lineStride + p * stepStride]`, and goes to
 * `to[at + 4 p + r]`. Missing lines become zeros.
 */
export function packPanel(
  to: Float64Array,
  at: number,
  from: Float32Array,
  offset: number,
  lineStride: number,
  stepStride: number,
  lines: number,
  steps: number,
): void {
  for (let r = 0; r < LINES; r++) {
    let o = at + r;
    if (r >= lines) {
      for (let p = 0; p < steps; p++, o += LINES) to[o] = 0;
      continue;
    }
    let i = offset + r * lineStride;
    for (let p = 0; p < steps; p++, o += LINES, i += stepStride) to[o] = from[i]!;
  }
}

/** `sums[4 r + c]` = sum over p of a's line r times b's line c. */
export function panelProduct(sums: Float64Array, a: Float64Array, aAt: number, b: Float64Array, bAt: number, steps: number): void {
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  let s20 = 0;
  let s21 = 0;
  let s22 = 0;
  let s23 = 0;
  let s30 = 0;
  let s31 = 0;
  let s32 = 0;
  let s33 = 0;
  const end = aAt + steps * LINES;
  for (let i = aAt, j = bAt; i < end; i += LINES, j += LINES) {
    const b0 = b[j]!;
    const b1 = b[j + 1]!;
    const b2 = b[j + 2]!;
    const b3 = b[j + 3]!;
    const a0 = a[i]!;
    s00 += a0 * b0;
    s01 += a0 * b1;
    s02 += a0 * b2;
    s03 += a0 * b3;
    const a1 = a[i + 1]!;
    s10 += a1 * b0;
    s11 += a1 * b1;
    s12 += a1 * b2;
    s13 += a1 * b3;
    const a2 = a[i + 2]!;
    s20 += a2 * b0;
    s21 += a2 * b1;
    s22 += a2 * b2;
    s23 += a2 * b3;
    const a3 = a[i + 3]!;
    s30 += a3 * b0;
    s31 += a3 * b1;
    s32 += a3 * b2;
    s33 += a3 * b3;
  }
  sums[0] = s00;
  sums[1] = s01;
  sums[2] = s02;
  sums[3] = s03;
  sums[4] = s10;
  sums[5] = s11;
  sums[6] = s12;
  sums[7] = s13;
  sums[8] = s20;
  sums[9] = s21;
  sums[10] = s22;
  sums[11] = s23;
  sums[12] = s30;
  sums[13] = s31;
  sums[14] = s32;
  sums[15] = s33;
}
