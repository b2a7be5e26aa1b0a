/**
 * bf16: the upper half of a float32 (1 sign, 8 exponent, 7 fraction bits). Rounding is to nearest, ties to even; a NaN stays a quiet NaN
 * with its sign and the upper bits of its payload.
 * @module
 */
import { float32FromBits, oddFloat32Bits } from './_bits.js';

/** bf16 bits of a float32 given by its bits (signed or unsigned 32-bit). */
export function bf16FromFloat32Bits(x: number): number {
  if ((x & 0x7fffffff) > 0x7f800000) return (x >>> 16) | 0x40; // rounding could carry a NaN into infinity
  return ((x | 0) + 0x7fff + ((x >>> 16) & 1)) >>> 16;
}

/** The value of bf16 `bits` (0 … 65535), exactly. */
export function bf16ToFloat(bits: number): number {
  return float32FromBits(bits << 16);
}

/** bf16 bits nearest to the double `x`, ties to even. Rounds once: not through float32. */
export function floatToBf16(x: number): number {
  return bf16FromFloat32Bits(oddFloat32Bits(x));
}
