/**
 * fp8 E5M2: 1 sign, 5 exponent (bias 15) and 2 fraction bits, specials as in IEEE 754; largest number 57344, smallest 2^-16; infinity is 0x7c. A
 * NaN stays a quiet NaN with its sign and the upper bits of its payload (PyTorch writes 0x7f for all). Rounding is to nearest, ties to even.
 * Source: OCP 8-bit Floating Point Specification v1.0.
 * @module
 */
import { encodeOne, minifloat, type SaturateOpts } from './_minifloat.js';
import { FLOAT_TRAITS } from './formats.js';

const codec = /* @__PURE__ */ minifloat(FLOAT_TRAITS.fp8e5m2);

/** The value of fp8e5m2 `code` (0 … 255), exactly. */
export function fp8e5m2ToFloat(code: number): number {
  return codec.values[code]!;
}

/** fp8e5m2 code nearest to a float32 given by its bits, ties to even. */
export function fp8e5m2FromFloat32Bits(x: number, saturate: boolean): number {
  return codec.encode(x, saturate);
}

/**
 * fp8e5m2 code nearest to the double `x`, ties to even; rounds once. Infinity is beyond the range; NaN stays NaN.
 * @param opts `saturate`: whether what is beyond the range becomes the largest number (default) or infinity
 */
export function floatToFp8e5m2(x: number, opts?: SaturateOpts): number {
  return encodeOne(codec, x, opts);
}
