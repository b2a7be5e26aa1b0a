/**
 * f32 to fp16: to nearest, ties to even; from 65520 on infinite. As formats' `floatToFp16`, but for the payload of a NaN.
 * @module
 */

/** The 16 bits. */
// @ts-ignore: decorator
@inline
export function toHalf(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >>> 16) & 0x8000;
  const a = bits & 0x7fffffff;
  // below 2^-14: in 0.5 … 1, floats are as far apart as subnormal halves, so this sum rounds to one
  if (a < 0x38800000) return sign | (reinterpret<u32>(reinterpret<f32>(a) + 0.5) - 0x3f000000);
  // the carry of rounding may reach the exponent, and infinity
  if (a < 0x47800000) return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
  return sign | (a > 0x7f800000 ? 0x7e00 : 0x7c00);
}
