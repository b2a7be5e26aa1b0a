/**
 * fp16, IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits. Rounding is to nearest, ties to even; magnitudes of 65520
 * and more become infinite; subnormals are exact; a NaN stays a quiet NaN with its sign and the upper bits of its payload.
 * @module
 */
import { oddFloat32Bits } from './_bits.js';

/** fp16 bits of a float32 given by its bits (signed or unsigned 32-bit). */
export function fp16FromFloat32Bits(x: number): number {
  const sign = (x >>> 16) & 0x8000;
  const a = x & 0x7fffffff;
  if (a >= 0x38800000) {
    // 2^-14 and above: normal. The rounding carry may reach the exponent, and from 65520 on it makes infinity's bits.
    if (a < 0x47800000) return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
    return a > 0x7f800000 ? sign | 0x7e00 | ((a >>> 13) & 0x3ff) : sign | 0x7c00;
  }
  const exponent = a >>> 23;
  if (exponent < 102) return sign; // below 2^-25, half of the smallest subnormal
  const shift = 126 - exponent;
  const significand = (a & 0x7fffff) | 0x800000;
  const whole = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (rest > half || (rest === half && (whole & 1) === 1) ? whole + 1 : whole);
}

/** float32 bits (as a signed 32-bit integer) of an fp16 value given by its bits. */
export function fp16ToFloat32Bits(h: number): number {
  const sign = (h & 0x8000) << 16;
  const exponent = h & 0x7c00;
  if (exponent !== 0 && exponent !== 0x7c00) return sign | (((h & 0x7fff) << 13) + 0x38000000);
  const fraction = h & 0x3ff;
  if (exponent !== 0) return fraction === 0 ? sign | 0x7f800000 : sign | 0x7fc00000 | (fraction << 13);
  if (fraction === 0) return sign;
  const lead = 31 - Math.clz32(fraction); // value = fraction * 2^-24: normal in float32
  return sign | ((lead + 103) << 23) | ((fraction << (23 - lead)) & 0x7fffff);
}

/** Distance between neighbours by exponent field, of normal numbers: looked up, since a power costs more than all else here. */
const SPACING = /* @__PURE__ */ Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25));

/** The value of fp16 `bits` (0 … 65535), exactly. */
export function fp16ToFloat(bits: number): number {
  const fraction = bits & 0x3ff;
  const exponent = (bits >>> 10) & 31;
  const magnitude =
    exponent === 31
      ? fraction === 0
        ? Number.POSITIVE_INFINITY
        : Number.NaN
      : exponent === 0
        ? fraction * 2 ** -24
        : (fraction + 1024) * SPACING[exponent];
  return bits & 0x8000 ? -magnitude : magnitude;
}

/** fp16 bits nearest to the double `x`, ties to even. Rounds once: not through float32. */
export function floatToFp16(x: number): number {
  return fp16FromFloat32Bits(oddFloat32Bits(x));
}
