/**
 * 4-bit codes to the float32 values of a table of 16: the table is cut into four planes, byte i of all values, because the engine's look-up
 * works on bytes; what is found in the planes is put together again. Exact.
 * @module
 */

// Plane i of the 16 floats at `table`.
// @ts-ignore: decorator
@inline
export function plane0(table: usize): v128 {
  return v128.shuffle<u64>(low(v128.load(table), v128.load(table, 16)), low(v128.load(table, 32), v128.load(table, 48)), 0, 2);
}
// @ts-ignore: decorator
@inline
export function plane1(table: usize): v128 {
  return v128.shuffle<u64>(low(v128.load(table), v128.load(table, 16)), low(v128.load(table, 32), v128.load(table, 48)), 1, 3);
}
// @ts-ignore: decorator
@inline
export function plane2(table: usize): v128 {
  return v128.shuffle<u64>(high(v128.load(table), v128.load(table, 16)), high(v128.load(table, 32), v128.load(table, 48)), 0, 2);
}
// @ts-ignore: decorator
@inline
export function plane3(table: usize): v128 {
  return v128.shuffle<u64>(high(v128.load(table), v128.load(table, 16)), high(v128.load(table, 32), v128.load(table, 48)), 1, 3);
}

/** Bytes 0 of eight floats, then their bytes 1. */
// @ts-ignore: decorator
@inline
function low(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
}
// @ts-ignore: decorator
@inline
function high(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
}

/** Bytes `codes` (0 … 15) of a plane. */
// @ts-ignore: decorator
@inline
export function pick(plane: v128, codes: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(plane, codes);
  return v128.swizzle(plane, codes);
}

/** Two planes side by side: bytes of codes 0 … 7. */
// @ts-ignore: decorator
@inline
export function lower(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
/** … of codes 8 … 15. */
// @ts-ignore: decorator
@inline
export function upper(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
/** Floats of the first four of eight codes, from planes 0 and 1 and planes 2 and 3 side by side. */
// @ts-ignore: decorator
@inline
export function first(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
/** … of the last four. */
// @ts-ignore: decorator
@inline
export function second(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
