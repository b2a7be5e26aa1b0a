/**
 * Multiply and add, the one step that the two binaries do differently: `simd128` rounds the product and the sum, `relaxed` leaves that to
 * the processor, which with FMA rounds once. Used where float order is free; the grids, the OBS sweep and exp are the same in both.
 * @module
 */

/** c + a b. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return v128.relaxed_madd<f32>(a, b, c);
  return f32x4.add(c, f32x4.mul(a, b));
}

/** c - a b. */
// @ts-ignore: decorator
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return v128.relaxed_nmadd<f32>(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}
