/**
 * Bit anatomy: what the bits of one number say. For people, tests and inspection; not for loops.
 * @module
 */
import { checkInteger, checkOneOf, type MinifloatFormat } from '@lmq/tensor';
import { float32FromBits } from './_bits.js';
import { bf16ToFloat } from './bf16.js';
import { e8m0ToFloat } from './e8m0.js';
import { FLOAT_TRAITS, INT_TRAITS, type IntFormat, type NumberFormat } from './formats.js';
import { fp16ToFloat } from './fp16.js';
import { decodeInts } from './ints.js';
import { minifloatValues } from './minifloats.js';

export type FloatKind = 'zero' | 'subnormal' | 'normal' | 'infinity' | 'nan';

type AnyFloat = Exclude<NumberFormat, IntFormat>;

/** A float taken apart. Strings are binary digits, highest first, at the field's full width; a field that the format has not is 0 and ''. */
export interface FloatAnatomy {
  format: AnyFloat;
  bits: string;
  sign: { raw: 0 | 1; bits: string };
  /** `unbiased`: the power of two in front of the significand; for zeros and subnormals that of the smallest normal, null for ∞ and NaN. */
  exponent: { raw: number; unbiased: number | null; bits: string };
  fraction: { raw: number; bits: string };
  value: number;
  kind: FloatKind;
  /** Distance between neighbours here (away from zero at a power of two); NaN for ∞ and NaN. */
  spacing: number;
  range: { max: number; minNormal: number; minSubnormal: number };
}

/** An integer taken apart. */
export interface IntAnatomy {
  format: IntFormat;
  bits: string;
  /** The top bit of a signed format; null for an unsigned one. */
  sign: { raw: 0 | 1; bits: string } | null;
  value: number;
  kind: 'zero' | 'integer';
  spacing: 1;
  range: { min: number; max: number };
}

/**
 * Takes the number with these bits apart.
 * @param bits an unsigned integer of the format's width, e.g. `0x3c00` for fp16's 1
 * @throws LmqError `argument/option` for an unknown format, or bits that do not fit it
 */
export function describe(bits: number, format: AnyFloat): FloatAnatomy;
export function describe(bits: number, format: IntFormat): IntAnatomy;
export function describe(bits: number, format: NumberFormat): FloatAnatomy | IntAnatomy;
export function describe(bits: number, format: NumberFormat): FloatAnatomy | IntAnatomy {
  const op = 'describe';
  checkOneOf(format, 'number format', [...Object.keys(FLOAT_TRAITS), ...Object.keys(INT_TRAITS)], op);
  const isFloat = Object.hasOwn(FLOAT_TRAITS, format);
  const width = isFloat ? FLOAT_TRAITS[format as AnyFloat].bits : INT_TRAITS[format as IntFormat].bits;
  checkInteger(bits, 'bits', 0, 2 ** width - 1, op);
  const digits = bits.toString(2).padStart(width, '0');
  return isFloat ? describeFloat(bits, digits, format as AnyFloat) : describeInt(bits, digits, format as IntFormat);
}

function describeFloat(bits: number, digits: string, format: AnyFloat): FloatAnatomy {
  const { signed, exponentBits, fractionBits, bias, max, minNormal, minSubnormal } = FLOAT_TRAITS[format];
  const fraction = bits % 2 ** fractionBits;
  const exponent = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const value = floatValue(bits, format);
  const a = Math.abs(value);
  const kind: FloatKind = Number.isNaN(a)
    ? 'nan'
    : a === Number.POSITIVE_INFINITY
      ? 'infinity'
      : a >= minNormal
        ? 'normal'
        : a
          ? 'subnormal'
          : 'zero';
  const unbiased = kind === 'nan' || kind === 'infinity' ? null : Math.max(exponent, fractionBits ? 1 : 0) - bias;
  const first = signed ? 1 : 0;
  return {
    format,
    bits: digits,
    sign: { raw: signed && digits[0] === '1' ? 1 : 0, bits: digits.slice(0, first) },
    exponent: { raw: exponent, unbiased, bits: digits.slice(first, first + exponentBits) },
    fraction: { raw: fraction, bits: digits.slice(first + exponentBits) },
    value,
    kind,
    spacing: unbiased === null ? Number.NaN : 2 ** (unbiased - fractionBits),
    range: { max, minNormal, minSubnormal },
  };
}

function floatValue(bits: number, format: AnyFloat): number {
  if (format === 'fp32') return float32FromBits(bits);
  if (format === 'fp16') return fp16ToFloat(bits);
  if (format === 'bf16') return bf16ToFloat(bits);
  if (format === 'e8m0') return e8m0ToFloat(bits);
  return minifloatValues(format satisfies MinifloatFormat)[bits]!;
}

function describeInt(bits: number, digits: string, format: IntFormat): IntAnatomy {
  const { signed, min, max } = INT_TRAITS[format];
  const value = decodeInts(format, Uint8Array.of(bits))[0];
  return {
    format,
    bits: digits,
    sign: signed ? { raw: value < 0 ? 1 : 0, bits: digits.slice(0, 1) } : null,
    value,
    kind: value === 0 ? 'zero' : 'integer',
    spacing: 1,
    range: { min, max },
  };
}
