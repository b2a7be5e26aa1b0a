/**
 * Inputs of 8 bits times symmetric weights of 8 bits, C += scales (A B), on panels of bytes (packBytes.ts). Inner sums are exact in i32. Tiles of up
 * to CODE_ROWS rows of inputs x 8 rows of the weight, in one of two ways:
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
import { CODE_ROWS } from './gemmCodes';
import { own, workBytes } from './work';

/** What a tile reads of weights: bytes to be widened, 16 bits, bytes. */
const NARROW: i32 = 0;
const WIDE: i32 = 1;
const BYTES: i32 = 2;

/** From so many tiles on, weights are widened once for all. */
const WIDEN_TILES: i32 = 3;
/** Sums of a tile, in front of widened weights in work space. */
const SUMS_BYTES: usize = 192;

// @ts-ignore: decorator
@inline
function step(acc: v128, a: v128, b: v128, mode: i32): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) if (mode == BYTES) return i32x4.relaxed_dot_i8x16_i7x16_add_s(b, a, acc);
  return i32x4.add(acc, i32x4.dot_i16x8_s(a, b));
}

/** Columns 0 and 2 of each row's four, widened. */
// @ts-ignore: decorator
@inline
function even(b: v128): v128 {
  return i16x8.shr_s(i16x8.shl(b, 8), 8);
}

/** Columns 1 and 3. */
// @ts-ignore: decorator
@inline
function odd(b: v128): v128 {
  return i16x8.shr_s(b, 8);
}

/**
 * sums ← A B for a tile of `rows` x 8, all but the scales. Nothing else is in this function: see gemm.ts.
 * @param k a multiple of 4
 * @param sums 8 i32 per row
 */
// @ts-ignore: decorator
@inline
function tile(rows: i32, mode: i32, k: i32, a: usize, b: usize, sums: usize): void {
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
  const end = a + <usize>k * <usize>(mode == BYTES ? rows : rows << 1);
  while (a < end) {
    let b0 = v128.load(b);
    let b1 = v128.load(b, 16);
    if (mode == NARROW) {
      b0 = even(b0);
      b1 = even(b1);
    }
    let s = v128.load_splat<i32>(a);
    c00 = step(c00, s, b0, mode);
    c01 = step(c01, s, b1, mode);
    if (rows > 1) {
      s = v128.load_splat<i32>(a, 4);
      c10 = step(c10, s, b0, mode);
      c11 = step(c11, s, b1, mode);
    }
    if (rows > 2) {
      s = v128.load_splat<i32>(a, 8);
      c20 = step(c20, s, b0, mode);
      c21 = step(c21, s, b1, mode);
    }
    if (rows > 3) {
      s = v128.load_splat<i32>(a, 12);
      c30 = step(c30, s, b0, mode);
      c31 = step(c31, s, b1, mode);
    }
    if (rows > 4) {
      s = v128.load_splat<i32>(a, 16);
      c40 = step(c40, s, b0, mode);
      c41 = step(c41, s, b1, mode);
    }
    a += rows << 2;
    if (mode == NARROW) {
      b0 = odd(v128.load(b));
      b1 = odd(v128.load(b, 16));
      s = v128.load_splat<i32>(a);
      c00 = step(c00, s, b0, mode);
      c01 = step(c01, s, b1, mode);
      if (rows > 1) {
        s = v128.load_splat<i32>(a, 4);
        c10 = step(c10, s, b0, mode);
        c11 = step(c11, s, b1, mode);
      }
      if (rows > 2) {
        s = v128.load_splat<i32>(a, 8);
        c20 = step(c20, s, b0, mode);
        c21 = step(c21, s, b1, mode);
      }
      if (rows > 3) {
        s = v128.load_splat<i32>(a, 12);
        c30 = step(c30, s, b0, mode);
        c31 = step(c31, s, b1, mode);
      }
      if (rows > 4) {
        s = v128.load_splat<i32>(a, 16);
        c40 = step(c40, s, b0, mode);
        c41 = step(c41, s, b1, mode);
      }
      a += rows << 2;
    }
    b += 32;
  }
  v128.store(sums, c00);
  v128.store(sums, c01, 16);
  if (rows > 1) {
    v128.store(sums, c10, 32);
    v128.store(sums, c11, 48);
  }
  if (rows > 2) {
    v128.store(sums, c20, 64);
    v128.store(sums, c21, 80);
  }
  if (rows > 3) {
    v128.store(sums, c30, 96);
    v128.store(sums, c31, 112);
  }
  if (rows > 4) {
    v128.store(sums, c40, 128);
    v128.store(sums, c41, 144);
  }
}

type Tile = (k: i32, a: usize, b: usize, sums: usize) => void;

function narrow1(k: i32, a: usize, b: usize, sums: usize): void {
  tile(1, NARROW, k, a, b, sums);
}
function narrow2(k: i32, a: usize, b: usize, sums: usize): void {
  tile(2, NARROW, k, a, b, sums);
}
function narrow3(k: i32, a: usize, b: usize, sums: usize): void {
  tile(3, NARROW, k, a, b, sums);
}
function narrow4(k: i32, a: usize, b: usize, sums: usize): void {
  tile(4, NARROW, k, a, b, sums);
}
function narrow5(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(5, NARROW, k, a, b, sums);
}
function bytes1(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(1, BYTES, k, a, b, sums);
}
function bytes2(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(2, BYTES, k, a, b, sums);
}
function bytes3(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(3, BYTES, k, a, b, sums);
}
function bytes4(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(4, BYTES, k, a, b, sums);
}
function bytes5(k: i32, a: usize, b: usize, sums: usize): void {
  if (ASC_FEATURE_RELAXED_SIMD) tile(5, BYTES, k, a, b, sums);
}
function wide(k: i32, a: usize, b: usize, sums: usize): void {
  tile(CODE_ROWS, WIDE, k, a, b, sums);
}

function tileOf(rows: i32, bytes: bool): Tile {
  if (rows == 1) return bytes ? bytes1 : narrow1;
  if (rows == 2) return bytes ? bytes2 : narrow2;
  if (rows == 3) return bytes ? bytes3 : narrow3;
  if (rows == 4) return bytes ? bytes4 : narrow4;
  return bytes ? bytes5 : narrow5;
}

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
  const widened = !bytes && m >= WIDEN_TILES * CODE_ROWS;
  // called through variables, so that they stay functions of their own
  const many = widened ? wide : tileOf(CODE_ROWS, bytes);
  const last = tileOf(m % CODE_ROWS, bytes);
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j);
    let blockSums = sums + ((<usize>j) << 2);
    for (let p = 0; p < k; p += depth) {
      const kc = min(depth, k - p);
      if (widened) widen(b, kc, wideB);
      let pc = c;
      let ps = rowScales;
      for (let i = 0; i < m; ) {
        const rows = min(CODE_ROWS, m - i);
        const pa = a + ((<usize>i * <usize>k + <usize>(p * rows)) << (bytes ? 0 : 1));
        if (rows == CODE_ROWS) many(kc, pa, widened ? wideB : b, tileSums);
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
