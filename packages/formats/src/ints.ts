/**
 * Integers of 2 to 8 bits, two's complement and unsigned, as number formats: values are integers, codes are their bits, one code per byte
 * (an int4 code is 0 … 15). Pack codes with `packRows` or `packStream`.
 * @module
 */
import { checkOneOf, LmqError } from '@lmq/tensor';
import { INT_TRAITS, type IntFormat } from './formats.js';
import { rint, roundAway, truncHalfUp } from './rounding.js';

const ROUNDINGS = { even: rint, away: roundAway, halfUp: truncHalfUp };

export interface EncodeIntsOpts {
  /** `even`: half to even (default). `away`: half away from zero. `halfUp`: trunc(x + 0.5). */
  rounding?: keyof typeof ROUNDINGS;
}

/**
 * Rounds to integers, saturates to the format's range, and returns the codes. Infinities saturate too.
 * @throws LmqError `argument/option` for an unknown format or rounding, `argument/value` for NaN
 */
export function encodeInts(format: IntFormat, src: Float32Array, opts: EncodeIntsOpts = {}): Uint8Array {
  const op = 'encodeInts';
  checkOneOf(format, 'integer format', Object.keys(INT_TRAITS), op);
  const round = ROUNDINGS[checkOneOf(opts.rounding ?? 'even', 'rounding', Object.keys(ROUNDINGS) as (keyof typeof ROUNDINGS)[], op)];
  const { min, max, bits } = INT_TRAITS[format];
  const mask = 2 ** bits - 1;
  const out = new Uint8Array(src.length);
  for (let i = 0; i < src.length; i++) {
    const x = src[i];
    if (Number.isNaN(x)) throw new LmqError('argument/value', `element ${i} is NaN`, { op, hint: 'An integer format has no NaN.' });
    out[i] = Math.min(max, Math.max(min, round(x))) & mask;
  }
  return out;
}

/**
 * Values of codes, exactly. Bits above the format's are ignored.
 * @param out receives them; default a new array
 * @throws LmqError `argument/option` for an unknown format, `argument/shape` when `out` is too short
 */
export function decodeInts(format: IntFormat, codes: Uint8Array, out: Float32Array = new Float32Array(codes.length)): Float32Array {
  const op = 'decodeInts';
  checkOneOf(format, 'integer format', Object.keys(INT_TRAITS), op);
  if (out.length < codes.length) {
    throw new LmqError('argument/shape', 'out is too short', { op, expected: `at least ${codes.length}`, found: out.length });
  }
  const { bits, signed } = INT_TRAITS[format];
  const shift = 32 - bits;
  if (signed) for (let i = 0; i < codes.length; i++) out[i] = (codes[i] << shift) >> shift;
  else for (let i = 0; i < codes.length; i++) out[i] = (codes[i] << shift) >>> shift;
  return out;
}
