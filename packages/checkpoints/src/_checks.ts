/**
 * Arithmetic and reports shared by the readers and writers: sizes that never overflow, names that never reach a prototype.
 * @module
 */
import { type ErrorCode, type ErrorFacts, LmqError } from '@lmq/tensor';

/** Largest extent of one axis that a reader takes. */
export const MAX_DIM = 2 ** 32;
/** Largest rank of a safetensors tensor. GGUF has its own limit of 4. */
export const MAX_RANK = 8;

/** Throws: short for `throw new LmqError`. */
export function fail(code: ErrorCode, what: string, facts: ErrorFacts): never {
  throw new LmqError(code, what, facts);
}

/** a * b, or `null` when the product is no longer an exact integer. Both are safe integers >= 0. */
export function mulSafe(a: number, b: number): number | null {
  const product = a * b;
  return Number.isSafeInteger(product) ? product : null;
}

/** Number of elements of a shape, or `null` when it is no longer an exact integer. */
export function countOf(shape: readonly number[]): number | null {
  let n = 1;
  for (const d of shape) {
    const next = mulSafe(n, d);
    if (next === null) return null;
    n = next;
  }
  return n;
}

/** Rows and columns that a tensor of any rank is read as: leading axes merged, a vector is one row. */
export function asMatrix(shape: readonly number[]): [rows: number, cols: number] {
  const cols = shape.length ? shape[shape.length - 1]! : 1;
  return [shape.slice(0, -1).reduce((a, b) => a * b, 1), cols];
}

const RESERVED = new Set(['__proto__', 'constructor', 'prototype']);

/** True for names that would reach into a prototype if some later program put them into a plain object. */
export function isReserved(name: string): boolean {
  return (name.length === 9 || name.length === 11) && RESERVED.has(name); // by length first: almost no name is hashed
}

/**
 * Zeros for data that is about to be read. Sparse files may hold tensors that no memory does.
 * @throws LmqError `file/limit`
 */
export function allocate(length: number, facts: ErrorFacts): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    return fail('file/limit', 'there is no memory for that many bytes', {
      ...facts,
      found: `${length} bytes`,
      hint: 'Read the tensor in parts, with `readBytes(name, from, to)`.',
      cause,
    });
  }
}

/**
 * The part `[from, to)` of a tensor of `bytes` bytes: where it begins and its length.
 * @throws LmqError `argument/value` when it leaves the tensor
 */
export function partOf(bytes: number, from = 0, to = bytes, facts: ErrorFacts = {}): [begin: number, length: number] {
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= bytes))
    fail('argument/value', 'the range leaves the tensor', { ...facts, expected: `0 … ${bytes}`, found: `${from} … ${to}` });
  return [from, to - from];
}

/** @throws LmqError `file/truncated` unless the range lies in the source */
export function checkRange(source: { name: string; size: number }, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && offset + length <= source.size) return;
  throw new LmqError('file/truncated', 'the file ends too early', {
    op: 'read',
    file: source.name,
    offset,
    expected: `${length} bytes`,
    found: `${Math.max(0, source.size - offset)} bytes`,
    hint: 'Download the file again.',
  });
}

/** The next multiple of `step` (a power of two or not) at or above `n`. */
export function roundUp(n: number, step: number): number {
  return Math.ceil(n / step) * step;
}

/** The report for a tensor that is not there. */
export function missingTensor(name: string, file: string, op: string): never {
  return fail('model/missing', 'there is no such tensor', {
    op,
    file,
    tensor: name,
    hint: 'List the names with `checkpoint.tensors.keys()`.',
  });
}
