/**
 * How compressed-tensors packs codes of 1 to 8 bits into 32-bit words, lowest bits first: `weight_packed` [out, words] along the input,
 * `weight_zero_point` [words, groups] along the output. Codes are unsigned: the signed integer plus `2 ** (bits - 1)`.
 *
 * Widths that do not divide 32 have two packings, which no field of a checkpoint tells apart: `stream` (2026 and later) fills all bits, so
 * that codes straddle words; `whole` (before) puts `floor(32 / bits)` whole codes in a word and leaves the rest of it 0.
 * Source: compressed-tensors 0.20.1 compressors/pack_quantized/helpers.py; 0.9.4 compressors/quantized_compressors/pack_quantized.py.
 * @module
 */
import { checkInteger, checkOneOf } from '@lmq/tensor';
import { expectSize, packWords, rowWords, transpose, unpackWords } from './_words.js';

export type CompressedTensorsPacking = 'stream' | 'whole';

export interface CompressedTensorsPackingOpts {
  packing: CompressedTensorsPacking;
  /** Along which axis of [rows, cols] codes share a word. Default `cols`, as in weights; zero points are packed along `rows`. */
  along?: 'rows' | 'cols';
}

/** Words that `n` codes take. */
function wordCount(n: number, bits: number, packing: CompressedTensorsPacking): number {
  return packing === 'stream' ? rowWords(n, bits) : Math.ceil(n / Math.floor(32 / bits));
}

/** The packings in which `n` codes take `words` words: both where they do not differ or cannot be told apart, none for a wrong count. */
export function compressedTensorsPackings(n: number, bits: number, words: number): CompressedTensorsPacking[] {
  checkInteger(bits, 'bits', 1, 8, 'compressedTensorsPackings');
  return (['stream', 'whole'] as const).filter((packing) => wordCount(n, bits, packing) === words);
}

/**
 * Words of codes [rows, cols], one per byte: [rows, words], or [words, cols] along rows.
 * @throws LmqError `argument/option` for bits outside 1 … 8 or an unknown packing, `argument/shape` unless the codes fill the matrix,
 * `argument/value` for a code that needs more bits
 */
export function packCompressedTensors(
  codes: Uint8Array,
  bits: number,
  rows: number,
  cols: number,
  { packing, along = 'cols' }: CompressedTensorsPackingOpts,
): Int32Array {
  const op = 'packCompressedTensors';
  check(bits, packing, along, op);
  expectSize(codes.length, rows * cols, 'codes', op);
  if (along === 'rows') {
    const words = packCompressedTensors(transpose(codes, rows, cols), bits, cols, rows, { packing });
    return transpose(words, cols, words.length / cols);
  }
  if (packing === 'stream') return packWords(codes, bits, rows, cols);
  const each = Math.floor(32 / bits);
  const words = wordCount(cols, bits, packing);
  // a word is a row of its own; the last one of each row of codes is filled up
  const wide = new Uint8Array(rows * words * each);
  for (let r = 0; r < rows; r++) wide.set(codes.subarray(r * cols, (r + 1) * cols), r * words * each);
  return packWords(wide, bits, rows * words, each);
}

/**
 * Inverse of {@link packCompressedTensors}.
 * @throws LmqError `argument/option` for bits outside 1 … 8 or an unknown packing, `argument/shape` for the wrong number of words
 */
export function unpackCompressedTensors(
  words: Int32Array,
  bits: number,
  rows: number,
  cols: number,
  { packing, along = 'cols' }: CompressedTensorsPackingOpts,
): Uint8Array {
  const op = 'unpackCompressedTensors';
  check(bits, packing, along, op);
  if (along === 'rows') {
    const count = wordCount(rows, bits, packing);
    expectSize(words.length, count * cols, 'words', op);
    return transpose(unpackCompressedTensors(transpose(words, count, cols), bits, cols, rows, { packing }), cols, rows);
  }
  const count = wordCount(cols, bits, packing);
  expectSize(words.length, rows * count, 'words', op);
  if (packing === 'stream') return unpackWords(words, bits, rows, cols);
  const each = Math.floor(32 / bits);
  const wide = unpackWords(words, bits, rows * count, each);
  const out = new Uint8Array(rows * cols);
  for (let r = 0; r < rows; r++) out.set(wide.subarray(r * count * each, r * count * each + cols), r * cols);
  return out;
}

function check(bits: number, packing: string, along: string, op: string): void {
  checkInteger(bits, 'bits', 1, 8, op);
  checkOneOf(packing, 'packing', ['stream', 'whole'], op);
  checkOneOf(along, 'along', ['rows', 'cols'], op);
}
