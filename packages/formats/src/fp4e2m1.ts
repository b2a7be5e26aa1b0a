/**
 * fp4 E2M1: 1 sign, 2 exponent (bias 1) and 1 fraction bit; the numbers are ±0, 0.5, 1, 1.5, 2, 3, 4 and 6. Rounding is to nearest, ties to even;
 * what is larger saturates. Source: OCP Microscaling Formats (MX) Specification v1.0, §5.3.3.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { encodeOne, minifloat } from './_minifloat.js';
import { FLOAT_TRAITS } from './formats.js';

const codec = /* @__PURE__ */ minifloat(FLOAT_TRAITS.fp4e2m1);

/** The value of fp4e2m1 `code` (0 … 15), exactly. */
export function fp4e2m1ToFloat(code: number): number {
  return codec.values[code]!;
}

/** fp4e2m1 code nearest to a float32 given by its bits, ties to even. -1 for NaN. */
export function fp4e2m1FromFloat32Bits(x: number): number {
  return codec.encode(x, true);
}

/**
 * fp4e2m1 code nearest to the double `x`, ties to even; rounds once. Infinity saturates.
 * @throws LmqError `argument/value` for NaN, which the format has not
 */
export function floatToFp4e2m1(x: number): number {
  const code = encodeOne(codec, x);
  if (code < 0) throw new LmqError('argument/value', 'fp4e2m1 has no NaN', { op: 'floatToFp4e2m1' });
  return code;
}
