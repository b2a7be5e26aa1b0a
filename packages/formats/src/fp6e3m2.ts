/**
 * fp6 E3M2: 1 sign, 3 exponent (bias 3) and 2 fraction bits; all codes are numbers, the largest 28, the smallest 2^-4. Rounding is to nearest,
 * ties to even; what is larger saturates. Source: OCP Microscaling Formats (MX) Specification v1.0, §5.3.2.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { encodeOne, minifloat } from './_minifloat.js';
import { FLOAT_TRAITS } from './formats.js';

const codec = /* @__PURE__ */ minifloat(FLOAT_TRAITS.fp6e3m2);

/** The value of fp6e3m2 `code` (0 … 63), exactly. */
export function fp6e3m2ToFloat(code: number): number {
  return codec.values[code]!;
}

/** fp6e3m2 code nearest to a float32 given by its bits, ties to even. -1 for NaN. */
export function fp6e3m2FromFloat32Bits(x: number): number {
  return codec.encode(x, true);
}

/**
 * fp6e3m2 code nearest to the double `x`, ties to even; rounds once. Infinity saturates.
 * @throws LmqError `argument/value` for NaN, which the format has not
 */
export function floatToFp6e3m2(x: number): number {
  const code = encodeOne(codec, x);
  if (code < 0) throw new LmqError('argument/value', 'fp6e3m2 has no NaN', { op: 'floatToFp6e3m2' });
  return code;
}
