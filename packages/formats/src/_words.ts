/**
 * Codes in 32-bit words, as the checkpoints of GPU runtimes store them: lowest bits first, little-endian.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { packRows, unpackRows } from './packing.js';

/** Words of a row: `ceil(cols * bits / 32)`. */
export const rowWords = (cols: number, bits: number) => Math.ceil((cols * bits) / 32);

/** Rows of codes, one per byte, as one bit stream a row; each row starts on a word. */
export function packWords(codes: Uint8Array, bits: number, rows: number, cols: number): Int32Array {
  const packed = packRows(codes, bits, rows, cols);
  const from = packed.length / rows;
  const to = rowWords(cols, bits) * 4;
  if (from === to) return new Int32Array(packed.buffer);
  const out = new Uint8Array(rows * to);
  for (let r = 0; r < rows; r++) out.set(packed.subarray(r * from, (r + 1) * from), r * to);
  return new Int32Array(out.buffer);
}

/** Inverse of {@link packWords}. The lengths have been checked. */
export function unpackWords(words: Int32Array, bits: number, rows: number, cols: number): Uint8Array {
  const wide = (rowWords(cols, bits) * 32) / bits; // codes and what fills the last word, if that is whole codes
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  if (wide === cols) return unpackRows(bytes, bits, rows, cols);
  const from = rowWords(cols, bits) * 4;
  const to = Math.ceil((cols * bits) / 8);
  const packed = new Uint8Array(rows * to);
  for (let r = 0; r < rows; r++) packed.set(bytes.subarray(r * from, r * from + to), r * to);
  return unpackRows(packed, bits, rows, cols);
}

/** [rows, cols] to [cols, rows], row-major. */
export function transpose<D extends Uint8Array | Int32Array>(data: D, rows: number, cols: number): D {
  const out = new (data.constructor as new (n: number) => D)(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = data[r * cols + c]!;
  return out;
}

/** Throws `argument/shape` unless `found` equals `expected`. */
export function expectSize(found: number, expected: number, what: string, op: string): void {
  if (found !== expected) throw new LmqError('argument/shape', `${what} has the wrong length`, { op, expected, found });
}

/** Throws `argument/shape` unless `n` is a multiple of `of`. */
export function expectMultiple(n: number, of: number, what: string, op: string): void {
  if (n % of !== 0)
    throw new LmqError('argument/shape', `${what} is not a multiple of ${of}`, { op, expected: `a multiple of ${of}`, found: n });
}
