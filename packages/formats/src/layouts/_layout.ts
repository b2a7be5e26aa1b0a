/**
 * What every layout brings, and the verbs as nested layouts see them.
 * @module
 */
import { type CompressedTensor, LmqError } from '@lmq/tensor';

/** The verbs as a layout that contains others calls them: each its own, on any layout. */
export interface Verbs {
  decodeRows(t: CompressedTensor, from: number, to: number, out: Float32Array): void;
  byteLength(t: CompressedTensor): number;
  validate(t: CompressedTensor, at: string, depth: number): void;
  layoutName(t: CompressedTensor): string;
  selectRows(t: CompressedTensor, index: ArrayLike<number>): CompressedTensor;
}

/** The verbs of one layout. Ranges, indices and `out` have been checked by the dispatcher. */
export interface Layout<T extends CompressedTensor> {
  /** Rows [from, to) as float32, row-major, into out[0 … (to - from) * in). */
  decodeRows(t: T, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void;
  /** Bytes of everything that decoding needs. */
  byteLength(t: T, nested: Verbs['byteLength']): number;
  /** Throws unless the parts fit together. `at` names the tensor in messages; `shape` has been checked. */
  validate(t: T, at: string, nested: Verbs['validate'], depth: number): void;
  layoutName(t: T, nested: Verbs['layoutName']): string;
  /** Rows `index`, in that order; rows may repeat. */
  selectRows(t: T, index: ArrayLike<number>, nested: Verbs['selectRows']): CompressedTensor;
}

/** Throws `argument/shape` unless `found` equals `expected`. */
export function expectLength(found: number, expected: number, what: string): void {
  if (found !== expected) throw new LmqError('argument/shape', `${what} has the wrong length`, { op: 'validate', expected, found });
}

/** Throws `argument/value` unless `data` is the typed array called `type`. */
export function expectArray(data: unknown, type: string, what: string): void {
  const found = Object.prototype.toString.call(data).slice(8, -1);
  if (found !== type) throw new LmqError('argument/value', `${what} is the wrong kind of array`, { op: 'validate', expected: type, found });
}

/** Throws `argument/value` unless `bits` is an integer in 1 … 8. */
export function expectBits(bits: number, what: string): void {
  if (!(Number.isInteger(bits) && bits >= 1 && bits <= 8)) {
    throw new LmqError('argument/value', `${what} is out of range`, { op: 'validate', expected: 'an integer in 1 … 8', found: bits });
  }
}
