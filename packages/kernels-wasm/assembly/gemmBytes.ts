/**
 * Inputs of 8 bits times symmetric weights of 8 bits, C += scales (A B), on panels of bytes (packBytes.ts). Inner sums are exact in i32. Tiles of up
 * to BYTE_ROWS rows of inputs x 8 rows of the weight, in one of two ways:
 *
 * - i32x4.dot_i16x8_s: inputs in 16 bits; weights are widened as a tile reads them, with many rows of inputs once for all tiles.
 * - i32x4.relaxed_dot_i8x16_i7x16_add_s, where its second operand may have all of 8 bits (dotProbe.ts): inputs as bytes, moved to where that
 *   operand's range is; what the move adds is a multiple of the weights' sum, and is taken away at the end.
 *
 * What bounds them, vector instructions for 16 products: 4 the first, 1 the second with AVX-VNNI (3 in C without it, 5 in V8, and right for 7 bits only;
 * two halves of 8-bit codes would take twice that). Hot operands, G operations/s: EPYC (Zen 4, no AVX-VNNI) 82 on Node 20, 94 on Node 24, the first
 * way. The same loops in C, 4096², 125 tokens: EPYC 50 ms; Xeon (Sapphire Rapids class) 74 ms, with AVX-VNNI 32.
 * @module
 */
import { madd } from './fma';
import { BYTE_ROWS, even, odd, tileOf, wide } from './tileBytes';
import { own, workBytes } from './work';

/** From so many tiles on, weights are widened once for all. */
const WIDEN_TILES: i32 = 3;
/** Sums of a tile, in front of widened weights in work space. */
const SUMS_BYTES: usize = 192;

/** A panel of bytes in 16 bits: per four columns 8 pairs of columns 0 and 2, then of 1 and 3. */
function widen(b: usize, k: i32, to: usize): void {
  for (const end = b + ((<usize>k) << 3); b < end; b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    v128.store(to, even(b0));
    v128.store(to, even(b1), 16);
    v128.store(to, odd(b0), 32);
    v128.store(to, odd(b1), 48);
    to += 64;
  }
}

/** C += scales (sums + shifts weightSums), for `width` of 8 columns. */
function merge(
  rows: i32,
  width: i32,
  sums: usize,
  shifts: usize,
  weightSums: usize,
  rowScales: usize,
  rowScalesStride: usize,
  scales: usize,
  c: usize,
  stride: usize,
): void {
  const f0 = v128.load(scales);
  const f1 = v128.load(scales, 16);
  for (let r = 0; r < rows; r++) {
    const s = v128.load_splat<f32>(rowScales);
    let lo = v128.load(sums);
    let hi = v128.load(sums, 16);
    if (shifts) {
      const shift = v128.load_splat<i32>(shifts);
      lo = i32x4.add(lo, i32x4.mul(shift, v128.load(weightSums)));
      hi = i32x4.add(hi, i32x4.mul(shift, v128.load(weightSums, 16)));
      shifts += 4;
    }
    const g0 = f32x4.mul(f0, s);
    const g1 = f32x4.mul(f1, s);
    if (width == 8) {
      v128.store(c, madd(f32x4.convert_i32x4_s(lo), g0, v128.load(c)));
      v128.store(c, madd(f32x4.convert_i32x4_s(hi), g1, v128.load(c, 16)), 16);
    } else {
      memory.copy(sums, c, (<usize>width) << 2);
      // sums are in registers: their space takes the row of C, which may end here
      v128.store(sums, madd(f32x4.convert_i32x4_s(lo), g0, v128.load(sums)));
      v128.store(sums, madd(f32x4.convert_i32x4_s(hi), g1, v128.load(sums, 16)), 16);
      memory.copy(c, sums, (<usize>width) << 2);
    }
    sums += 32;
    rowScales += rowScalesStride;
    c += stride;
  }
}

/**
 * C += A Bᵀ for [m, k] inputs and n rows of a weight.
 * @param k columns, a multiple of 4; `depth` of them at a time, a multiple of 4 up to 1024, after which sums become f32 and are added
 * @param a from packBytesInput
 * @param shifts i32 per row of inputs: A holds bytes; 0: it holds 16 bits
 * @param rowScales one f32 per row of inputs, `rowScalesStride` apart
 * @param b panels of 8 rows
 * @param sums i32 per row of the weight and depth, `sumsStride` from depth to depth; not read where shifts is 0
 * @param scales one f32 per row of the weight; whole vectors are read
 */
export function gemmBytes(
  m: i32,
  n: i32,
  k: i32,
  depth: i32,
  a: usize,
  shifts: usize,
  rowScales: usize,
  rowScalesStride: usize,
  b: usize,
  sums: usize,
  sumsStride: usize,
  scales: usize,
  c: usize,
  stride: usize,
  work: usize,
): void {
  const tileSums = own(work, workBytes());
  const wideB = tileSums + SUMS_BYTES;
  const bytes = shifts != 0;
  const widened = !bytes && m >= WIDEN_TILES * BYTE_ROWS;
  // called through variables, so that they stay functions of their own
  const many = widened ? wide : tileOf(BYTE_ROWS, bytes);
  const last = tileOf(m % BYTE_ROWS, bytes);
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j);
    let blockSums = sums + ((<usize>j) << 2);
    for (let p = 0; p < k; p += depth) {
      const kc = min(depth, k - p);
      if (widened) widen(b, kc, wideB);
      let pc = c;
      let ps = rowScales;
      for (let i = 0; i < m; ) {
        const rows = min(BYTE_ROWS, m - i);
        const pa = a + ((<usize>i * <usize>k + <usize>(p * rows)) << (bytes ? 0 : 1));
        if (rows == BYTE_ROWS) many(kc, pa, widened ? wideB : b, tileSums);
        else last(kc, pa, b, tileSums);
        merge(rows, width, tileSums, shifts ? shifts + ((<usize>i) << 2) : 0, blockSums, ps, rowScalesStride, scales, pc, stride);
        pc += <usize>rows * stride;
        ps += <usize>rows * rowScalesStride;
        i += rows;
      }
      b += (<usize>kc) << 3;
      blockSums += sumsStride;
    }
    scales += 32;
    c += 32;
  }
}
