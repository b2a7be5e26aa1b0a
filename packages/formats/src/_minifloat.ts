/**
 * Floats of 8 bits and fewer, one codec for all: encoded from float32 bits in integer arithmetic, decoded by look-up.
 * @module
 */
import { oddFloat32Bits } from './_bits.js';
import type { FloatTraits } from './formats.js';

/** One format. */
export interface Codec {
  /** The value of each code. */
  values: Float32Array;
  /**
   * Code nearest to a float32 given by its bits, ties to the even code. Beyond the range it is the largest number when saturating or when
   * the format has nothing beyond it, else infinity, or NaN in a format without infinity. NaN keeps its sign; -1 when there is no NaN.
   */
  encode(float32Bits: number, saturate: boolean): number;
}

export interface SaturateOpts {
  /** Beyond the range: the largest number (default), or what the format has beyond it: infinity (E5M2), NaN (E4M3). */
  saturate?: boolean;
}

export function minifloat({ bits, exponentBits, fractionBits, bias, specials }: FloatTraits): Codec {
  const codes = 2 ** bits;
  const signBit = bits - 1;
  const positive = codes / 2 - 1; // the sign aside
  const infinity = specials === 'ieee' ? (2 ** exponentBits - 1) << fractionBits : -1;
  const largest = specials === 'ieee' ? infinity - 1 : specials === 'nan' ? positive - 1 : positive;
  const beyond = specials === 'none' ? largest : largest + 1;

  const values = Float32Array.from({ length: codes }, (_, code) => {
    const magnitude = code & positive;
    const exponent = magnitude >> fractionBits;
    const fraction = (magnitude & (2 ** fractionBits - 1)) * 2 ** -fractionBits;
    const finite = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
    const value = magnitude <= largest ? finite : magnitude === infinity ? Number.POSITIVE_INFINITY : Number.NaN;
    return code > positive ? -value : value;
  });

  const shift = 23 - fractionBits;
  const firstExponent = 128 - bias; // of float32, at the smallest normal number
  const rebias = (127 - bias) << fractionBits;
  const encode = (x: number, saturate: boolean): number => {
    const sign = (x >>> 31) << signBit;
    const a = x & 0x7fffffff;
    if (a > 0x7f800000) {
      if (specials === 'none') return -1;
      return sign | (specials === 'nan' ? positive : infinity | (1 << (fractionBits - 1)) | ((a >>> shift) & (2 ** fractionBits - 1)));
    }
    const exponent = a >>> 23;
    if (exponent >= firstExponent) {
      const code = ((a + (1 << (shift - 1)) - 1 + ((a >>> shift) & 1)) >>> shift) - rebias; // a carry may reach the exponent
      return sign | (code <= largest ? code : saturate ? largest : beyond);
    }
    const drop = shift + firstExponent - exponent;
    if (drop > 24) return sign; // less than half of the smallest subnormal
    const significand = (a & 0x7fffff) | 0x800000;
    const whole = significand >>> drop;
    return sign | ((significand + (1 << (drop - 1)) - 1 + (whole & 1)) >>> drop);
  };
  return { values, encode };
}

/** The code nearest to the double `x`. Rounds once: not through float32. */
export function encodeOne({ encode }: Codec, x: number, { saturate = true }: SaturateOpts = {}): number {
  return encode(oddFloat32Bits(x), saturate);
}
