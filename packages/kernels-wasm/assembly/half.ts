/**
 * fp16 and bf16 to f32, 4 at a time. Exact for every bit pattern, subnormals, infinities and NaN included.
 * @module
 */

/** bits: 4 fp16 patterns in 32-bit lanes. */
// @ts-ignore: decorator
@inline
export function halfToFloat(bits: v128): v128 {
  const shifted = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13); // exponent and mantissa in place, bias 15
  const rebias = i32x4.splat(0x38000000); // 127 - 15 = 112 exponent steps
  const normal = i32x4.add(shifted, rebias);
  // infinity and NaN: another 112 steps take the exponent from 143 to 255
  const special = v128.and(i32x4.gt_s(shifted, i32x4.splat(0x0f7fffff)), rebias);
  // zero and subnormal: read as 2^-14 (1 + m), less 2^-14
  const small = f32x4.sub(i32x4.add(normal, i32x4.splat(0x00800000)), f32x4.splat(6.103515625e-5));
  const magnitude = v128.bitselect(small, i32x4.add(normal, special), i32x4.lt_s(shifted, i32x4.splat(0x00800000)));
  return v128.or(magnitude, i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16));
}

/** 4 halves at an address. */
// @ts-ignore: decorator
@inline
export function loadHalf(p: usize): v128 {
  return halfToFloat(v128.load_ext<u16>(p));
}

/** 4 bf16 at an address. */
// @ts-ignore: decorator
@inline
export function loadBrain(p: usize): v128 {
  return i32x4.shl(v128.load_ext<u16>(p), 16);
}

/** One half. */
// @ts-ignore: decorator
@inline
export function oneHalf(p: usize): f32 {
  return f32x4.extract_lane(halfToFloat(i32x4.splat(<i32>load<u16>(p))), 0);
}

/** One bf16. */
// @ts-ignore: decorator
@inline
export function oneBrain(p: usize): f32 {
  return reinterpret<f32>((<u32>load<u16>(p)) << 16);
}
