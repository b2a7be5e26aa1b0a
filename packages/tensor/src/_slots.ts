/**
 * Handles as this library sees them, and how their shapes are checked.
 * @module
 */
import type { Backend, Handle, Scope } from './backend.js';
import { LmqError } from './errors.js';
import type { Mat } from './kernels.js';

/** A handle with what is behind it. */
export interface Slot<B> extends Handle, Mat<B> {
  backend: Backend;
  scope: Scope;
  /** The handle a view looks at. */
  of: Slot<B> | null;
  freed: boolean;
}

/** Throws `argument/shape`. */
export function fail(op: string, what: string, expected: unknown, found: unknown): never {
  throw new LmqError('argument/shape', what, { op, expected, found });
}

export const shape = (h: { rows: number; cols: number }) => `${h.rows} x ${h.cols}`;

export function same(a: Mat<unknown>, b: Mat<unknown>, op: string): void {
  if (a.rows !== b.rows || a.cols !== b.cols) fail(op, 'shapes differ', shape(a), shape(b));
}

/** A list of indices below `limit`, as kernels take them. */
export function indices(list: ArrayLike<number>, limit: number, op: string): Int32Array {
  const out = new Int32Array(list.length);
  for (let i = 0; i < list.length; i++) {
    const k = list[i]!;
    if (!(Number.isInteger(k) && k >= 0 && k < limit)) fail(op, `index ${i} is out of range`, `0 … ${limit - 1}`, k);
    out[i] = k;
  }
  return out;
}

/** Views may share a buffer with the output of a gemm only side by side. */
export function disjoint(out: Mat<unknown>, other: Mat<unknown>, op: string): void {
  const rowsApart = (a: Mat<unknown>, b: Mat<unknown>) => a.offset + (a.rows - 1) * a.stride + a.cols <= b.offset;
  const c0 = out.offset % out.stride;
  const c1 = other.offset % other.stride;
  const columnsApart = out.stride === other.stride && (c0 + out.cols <= c1 || c1 + other.cols <= c0);
  if (rowsApart(out, other) || rowsApart(other, out) || columnsApart) return;
  throw new LmqError('argument/shape', 'out overlaps an operand', { op, hint: 'Write to a matrix of its own.' });
}
