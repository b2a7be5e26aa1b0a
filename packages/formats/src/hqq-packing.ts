/**
 * How HQQ packs codes: the groups of a weight are rows of a matrix, and each word takes codes of rows that lie a whole part of the matrix
 * apart, the first of them in the highest bits. Codes of 5 and 6 bits take a byte, those of 3 bits go ten to a word of 32 bits, with rows of
 * zeros at the end where that is needed. Source: HQQ core/bitpack.py.
 * @module
 */
import { checkOneOf, LmqError } from '@lmq/tensor';

/** Words of a packing. */
export interface HqqPacking {
  /** As HQQ calls it. */
  name: '8bit_u8' | '4bit_u8' | '3bit_32' | '2bit_u8' | '1bit_u8';
  /** Bytes of a word. */
  bytes: 1 | 4;
  /** Codes in a word. */
  codes: number;
}

const BYTE: HqqPacking = { name: '8bit_u8', bytes: 1, codes: 1 };
const PACKINGS: Readonly<Record<string, HqqPacking>> = {
  8: BYTE,
  6: BYTE,
  5: BYTE,
  4: { name: '4bit_u8', bytes: 1, codes: 2 },
  3: { name: '3bit_32', bytes: 4, codes: 10 },
  2: { name: '2bit_u8', bytes: 1, codes: 4 },
  1: { name: '1bit_u8', bytes: 1, codes: 8 },
};

/** Widths of codes that HQQ packs. */
export const HQQ_BITS: readonly number[] = Object.keys(PACKINGS).map(Number);

/** @throws LmqError `argument/option` for other bits than 1, 2, 3, 4, 5, 6 and 8 */
export function hqqPacking(bits: number): HqqPacking {
  return PACKINGS[checkOneOf(String(bits), 'bits', Object.keys(PACKINGS), 'hqqPacking')]!;
}

/**
 * `W_q` as bytes, from codes [rows, cols], one per byte.
 * @throws LmqError `argument/option` as {@link hqqPacking}; `argument/shape` unless the codes fill the matrix and rows whole words (but for 3
 * bits); `argument/value` for a code that needs more bits
 */
export function packHqq(codes: Uint8Array, bits: number, rows: number, cols: number): Uint8Array {
  const op = 'packHqq';
  const { bytes, codes: per } = hqqPacking(bits);
  if (codes.length !== rows * cols)
    throw new LmqError('argument/shape', 'codes do not fill the rows', { op, expected: rows * cols, found: codes.length });
  if (bytes === 1 && rows % per !== 0)
    throw new LmqError('argument/shape', 'the rows are not whole words', { op, expected: `a multiple of ${per}`, found: rows });
  const step = Math.ceil(rows / per) * cols;
  const words = bytes === 1 ? new Uint8Array(step) : new Int32Array(step);
  let seen = 0;
  for (let part = 0; part < per; part++) {
    const shift = bits * (per - 1 - part);
    const from = part * step;
    const count = Math.min(step, codes.length - from);
    for (let i = 0; i < count; i++) {
      const code = codes[from + i]!;
      seen |= code;
      words[i]! |= code << shift;
    }
  }
  if (seen >>> bits !== 0)
    throw new LmqError('argument/value', `a code needs more than ${bits} bits`, { op, expected: `0 … ${2 ** bits - 1}` });
  return new Uint8Array(words.buffer);
}

/**
 * Codes [rows, cols], one per byte, from the bytes of `W_q`.
 * @throws LmqError as {@link packHqq}, and `argument/value` for a byte that is no code of 5 or 6 bits
 */
export function unpackHqq(packed: Uint8Array, bits: number, rows: number, cols: number): Uint8Array {
  const op = 'unpackHqq';
  const { bytes, codes: per } = hqqPacking(bits);
  const step = Math.ceil(rows / per) * cols;
  if ((bytes === 1 && rows % per !== 0) || packed.length !== step * bytes)
    throw new LmqError('argument/shape', 'the words are not those of the rows', { op, expected: step * bytes, found: packed.length });
  const words = bytes === 1 ? packed : new Int32Array(packed.slice().buffer);
  const codes = new Uint8Array(rows * cols);
  const mask = per === 1 ? 255 : 2 ** bits - 1;
  let seen = 0;
  for (let part = 0; part < per; part++) {
    const shift = bits * (per - 1 - part);
    const from = part * step;
    const count = Math.min(step, codes.length - from);
    for (let i = 0; i < count; i++) {
      const code = (words[i]! >>> shift) & mask;
      seen |= code;
      codes[from + i] = code;
    }
  }
  if (seen >>> bits !== 0)
    throw new LmqError('argument/value', `a code needs more than ${bits} bits`, { op, expected: `0 … ${2 ** bits - 1}` });
  return codes;
}
