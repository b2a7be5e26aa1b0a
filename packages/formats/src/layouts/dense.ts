/**
 * Layout `dense`: plain stored floats. Decoding is exact.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { type Dense, type FloatData, type FloatFormat, LmqError } from '@lmq/tensor';
import { checkFloatData, decodeFloats } from '../floats.js';
import { gatherRows } from '../scales.js';
import { expectLength } from './_layout.js';

/**
 * A dense tensor over `data`, row-major, without copying.
 * @throws LmqError `argument/shape` when data does not fill [rows, cols], `argument/value` for the wrong kind of array
 */
export function dense(format: FloatFormat, data: FloatData, rows: number, cols: number): Dense {
  checkFloatData(format, data, 'dense');
  if (data.length !== rows * cols) {
    throw new LmqError('argument/shape', 'data does not fill the tensor', {
      op: 'dense',
      expected: `${rows} x ${cols}`,
      found: data.length,
    });
  }
  return { kind: 'dense', shape: [rows, cols], format, data };
}

export function decodeRows(t: Dense, from: number, to: number, out: Float32Array): void {
  decodeFloats(t.format, t.data, out, from * t.shape[1], to * t.shape[1]);
}

export function byteLength(t: Dense): number {
  return t.data.byteLength;
}

export function validate(t: Dense, at: string): void {
  checkFloatData(t.format, t.data, 'validate');
  expectLength(t.data.length, t.shape[0] * t.shape[1], `${at}.data`);
}

export function layoutName(t: Dense): string {
  return t.format;
}

export function selectRows(t: Dense, index: ArrayLike<number>): Dense {
  return { ...t, shape: [index.length, t.shape[1]], data: gatherRows(t.data, t.shape[1], index) };
}
