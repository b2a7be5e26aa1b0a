/**
 * fp8 E4M3, the variant without infinity ("E4M3FN"): 1 sign, 4 exponent (bias 7) and 3 fraction bits; largest number 448, smallest 2^-9; NaN is
 * 0x7f and 0xff. Rounding is to nearest, ties to even. Source: OCP 8-bit Floating Point Specification v1.0.
 * @module
 */
import { encodeOne, minifloat, type SaturateOpts } from './_minifloat.js';
import { FLOAT_TRAITS } from './formats.js';

const codec = /* @__PURE__ */ minifloat(FLOAT_TRAITS.fp8e4m3);

/** The value of fp8e4m3 `code` (0 … 255), exactly. */
export function fp8e4m3ToFloat(code: number): number {
  return codec.values[code]!;
}

/** fp8e4m3 code nearest to a float32 given by its bits, ties to even. */
export function fp8e4m3FromFloat32Bits(x: number, saturate: boolean): number {
  return codec.encode(x, saturate);
}

/**
 * fp8e4m3 code nearest to the double `x`, ties to even; rounds once. Infinity is beyond the range; NaN stays NaN.
 * @param opts `saturate`: whether what is beyond the range becomes the largest number (default) or NaN
 */
export function floatToFp8e4m3(x: number, opts?: SaturateOpts): number {
  return encodeOne(codec, x, opts);
}
