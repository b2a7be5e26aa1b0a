/**
 * How AWQ "GEMM" checkpoints pack 4-bit codes into 32-bit words: along the output, eight columns a word in the order 0, 2, 4, 6, 1, 3, 5, 7
 * from the lowest bits. `qweight` is [in, out / 8] and `qzeros` [groups, out / 8]. Source: AutoAWQ modules/linear/gemm.py.
 * @module
 */
import { expectMultiple, expectSize, packWords, transpose, unpackWords } from './_words.js';

/** Which of eight columns each nibble holds, lowest first. */
const ORDER = [0, 2, 4, 6, 1, 3, 5, 7];

/**
 * Codes (n = in) or zero points (n = groups) [out, n], one per byte, as words [n, out / 8].
 * @throws LmqError `argument/shape` unless `out` is a multiple of 8 and the values fill the matrix, `argument/value` for one above 15
 */
export function packAwq(values: Uint8Array, out: number, n: number): Int32Array {
  const op = 'packAwq';
  expectMultiple(out, 8, 'out', op);
  expectSize(values.length, out * n, 'values', op);
  const turned = transpose(values, out, n);
  return packWords(
    turned.map((_, i) => turned[i - (i % 8) + ORDER[i % 8]!]!),
    4,
    n,
    out,
  );
}

/**
 * Inverse of {@link packAwq}.
 * @throws LmqError `argument/shape` unless `out` is a multiple of 8 and the words fill [n, out / 8]
 */
export function unpackAwq(words: Int32Array, out: number, n: number): Uint8Array {
  const op = 'unpackAwq';
  expectMultiple(out, 8, 'out', op);
  expectSize(words.length, (out / 8) * n, 'words', op);
  const mixed = unpackWords(words, 4, n, out);
  const turned = new Uint8Array(mixed.length);
  for (let i = 0; i < mixed.length; i++) turned[i - (i % 8) + ORDER[i % 8]!] = mixed[i]!;
  return transpose(turned, n, out);
}
