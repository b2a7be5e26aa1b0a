/**
 * The verbs that work on every storage layout: decode, byteLength, validate, layoutName, selectRows and what follows from them. Each layout
 * implements them in its file under `layouts/`; this file checks arguments and dispatches.
 * @module
 */
import { type CompressedTensor, type LayoutKind, LmqError, type Matrix, matrix } from '@lmq/tensor';
import type { Layout, Verbs } from './layouts/_layout.js';
import * as affine from './layouts/affine.js';
import * as blocks from './layouts/blocks.js';
import * as csr from './layouts/csr.js';
import * as dense from './layouts/dense.js';
import * as lut from './layouts/lut.js';
import * as minifloat from './layouts/minifloat.js';
import * as parts from './layouts/parts.js';
import * as rescaled from './layouts/rescaled.js';
import * as sum from './layouts/sum.js';

type Layouts = { readonly [K in LayoutKind]: Layout<Extract<CompressedTensor, { kind: K }>> };
const LAYOUTS: Layouts = { dense, minifloat, affine, lut, blocks, csr, sum, parts, rescaled };

/** Layouts may nest this deep. Methods nest two or three; a file that nests more is broken or hostile. */
const MAX_DEPTH = 8;

/** The layout of `t`, typed for any tensor: sound because `kind` chose it. */
function layoutOf(t: CompressedTensor, op: string): Layout<CompressedTensor> {
  const kind: string = t?.kind;
  if (Object.hasOwn(LAYOUTS, kind)) return LAYOUTS[t.kind] as Layout<CompressedTensor>;
  throw new LmqError('argument/value', 'unknown layout', { op, expected: Object.keys(LAYOUTS).join(', '), found: kind });
}

const nested: Verbs = { decodeRows, byteLength, validate: validateAt, layoutName, selectRows };

/**
 * All values, float32, [out, in].
 * @throws LmqError `argument/value` for an unknown layout
 */
export function decode(t: CompressedTensor): Matrix {
  const [rows, cols] = t.shape;
  const out = new Float32Array(rows * cols);
  decodeRows(t, 0, rows, out);
  return matrix(out, rows, cols);
}

/**
 * Values of rows [from, to), float32, row-major into out[0 … (to - from) * in). Does not validate: the tensor is one that `validate` accepts.
 * @throws LmqError `argument/shape` when the range leaves the tensor or `out` is too short
 */
export function decodeRows(t: CompressedTensor, from: number, to: number, out: Float32Array): void {
  const layout = layoutOf(t, 'decodeRows');
  checkRange(t, from, to, 'decodeRows');
  if (out.length < (to - from) * t.shape[1]) {
    throw new LmqError('argument/shape', 'out is too short', {
      op: 'decodeRows',
      expected: `at least ${to - from} x ${t.shape[1]}`,
      found: out.length,
    });
  }
  layout.decodeRows(t, from, to, out, nested);
}

/** Bytes that the tensor takes stored, with everything that decoding needs: codes, scales, zero points, indices, tables, input scales. */
export function byteLength(t: CompressedTensor): number {
  return layoutOf(t, 'byteLength').byteLength(t, nested);
}

/** `8 * byteLength / (out * in)`. */
export function bitsPerWeight(t: CompressedTensor): number {
  return (8 * byteLength(t)) / (t.shape[0] * t.shape[1]);
}

/**
 * Throws unless the tensor's parts fit together: shapes, lengths, kinds of arrays, bits, group counts, finite scales and tables, indices in
 * range, parts that are disjoint and cover. The numbers of dense and minifloat tensors are not looked at. Reads every scale and index once.
 * @throws LmqError `argument/shape` or `argument/value`, naming the field, e.g. `weight.parts[1].base.scales.data`
 */
export function validate(t: CompressedTensor): void {
  validateAt(t, 'weight', 0);
}

function validateAt(t: CompressedTensor, at: string, depth: number): void {
  const op = 'validate';
  if (depth > MAX_DEPTH) throw new LmqError('argument/value', `${at} is nested too deep`, { op, expected: `at most ${MAX_DEPTH} levels` });
  const layout = layoutOf(t, op);
  const { shape } = t;
  if (!(Array.isArray(shape) && shape.length === 2 && shape.every((n) => Number.isInteger(n) && n > 0) && shape[0] * shape[1] <= 2 ** 53)) {
    throw new LmqError('argument/shape', `${at}.shape is not a matrix`, { op, expected: 'two positive integers', found: shape });
  }
  layout.validate(t, at, nested, depth);
}

/** A short name for people: `bf16`, `affine 4-bit g128 sym`, `Q4_0` … */
export function layoutName(t: CompressedTensor): string {
  return layoutOf(t, 'layoutName').layoutName(t, nested);
}

/**
 * Rows `index`, in that order, still compressed: decoding the result gives exactly those rows. Rows may repeat. Copies what belongs
 * to rows and shares what belongs to columns (group index, tables, input scales).
 * @throws LmqError `argument/shape` for an empty index, `argument/value` for a row that does not exist
 */
export function selectRows(t: CompressedTensor, index: ArrayLike<number>): CompressedTensor {
  const layout = layoutOf(t, 'selectRows');
  if (index.length === 0) throw new LmqError('argument/shape', 'no rows are selected', { op: 'selectRows' });
  for (let i = 0; i < index.length; i++) {
    if (!(Number.isInteger(index[i]) && index[i] >= 0 && index[i] < t.shape[0])) {
      throw new LmqError('argument/value', `index[${i}] names no row`, {
        op: 'selectRows',
        expected: `0 … ${t.shape[0] - 1}`,
        found: index[i],
      });
    }
  }
  return layout.selectRows(t, index, nested);
}

/**
 * Rows [from, to), still compressed: `selectRows` of a range.
 * @throws LmqError `argument/shape` when the range is empty or leaves the tensor
 */
export function sliceRows(t: CompressedTensor, from: number, to: number): CompressedTensor {
  checkRange(t, from, to, 'sliceRows');
  return selectRows(
    t,
    Uint32Array.from({ length: to - from }, (_, i) => from + i),
  );
}

function checkRange(t: CompressedTensor, from: number, to: number, op: string): void {
  if (Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= t.shape[0]) return;
  throw new LmqError('argument/shape', 'the rows leave the tensor', { op, expected: `0 … ${t.shape[0]}`, found: `${from} … ${to}` });
}
