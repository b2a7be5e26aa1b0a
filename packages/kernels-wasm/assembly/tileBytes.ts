/**
 * Tiles of gemmBytes.ts: exact sums of up to BYTE_ROWS rows of inputs x 8 rows of a weight, all but the scales. A function has nothing else in it, or the
 * compiler of Node 20 keeps sums in memory instead of registers (gemm.ts): so it has registers for 5 rows there too, 79 G operations/s instead of 74 with 4.
 * @module
 */

/** Most rows of a tile. */
export const BYTE_ROWS: i32 = 5;

/** What a tile reads of weights: bytes to be widened, 16 bits, bytes. */
const NARROW: i32 = 0;
const WIDE: i32 = 1;
const BYTES: i32 = 2;

// @ts-ignore: decorator
@inline
function step(acc: v128, a: v128, b: v128, mode: i32): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) if (mode == BYTES) return i32x4.relaxed_dot_i8x16_i7x16_add_s(b, a, acc);
  return i32x4.add(acc, i32x4.dot_i16x8_s(a, b));
}

/** Columns 0 and 2 of each row's four, widened. */
// @ts-ignore: decorator
@inline
export function even(b: v128): v128 {
  return i16x8.shr_s(i16x8.shl(b, 8), 8);
}

/** Columns 1 and 3. */
// @ts-ignore: decorator
@inline
export function odd(b: v128): v128 {
  return i16x8.shr_s(b, 8);
}

/**
 * sums ← A B for `rows` x 8.
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
  tile(5, NARROW, k, a, b, sums);
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
/** For BYTE_ROWS, with widened weights. */
export function wide(k: i32, a: usize, b: usize, sums: usize): void {
  tile(BYTE_ROWS, WIDE, k, a, b, sums);
}

/** The function for so many rows, on bytes or with weights to be widened. */
export function tileOf(rows: i32, bytes: bool): Tile {
  if (rows == 1) return bytes ? bytes1 : narrow1;
  if (rows == 2) return bytes ? bytes2 : narrow2;
  if (rows == 3) return bytes ? bytes3 : narrow3;
  if (rows == 4) return bytes ? bytes4 : narrow4;
  return bytes ? bytes5 : narrow5;
}
