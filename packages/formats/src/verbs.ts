/**
 * The verbs that work on every storage layout: decode, byteLength, validate, layoutName, selectRows and what follows from them. Each layout
 * implements them in its file under `layouts/`; this file checks arguments and dispatches, by a table for each verb: a bundle that only decodes
 * has no code of the others.
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

type Table<V extends keyof Verbs> = { readonly [K in LayoutKind]: Layout<Extract<CompressedTensor, { kind: K }>>[V] };
const DECODE_ROWS: Table<'decodeRows'> = {
  dense: dense.decodeRows,
  minifloat: minifloat.decodeRows,
  affine: affine.decodeRows,
  lut: lut.decodeRows,
  blocks: blocks.decodeRows,
  csr: csr.decodeRows,
  sum: sum.decodeRows,
  parts: parts.decodeRows,
  rescaled: rescaled.decodeRows,
};
const BYTE_LENGTH: Table<'byteLength'> = {
  dense: dense.byteLength,
  minifloat: minifloat.byteLength,
  affine: affine.byteLength,
  lut: lut.byteLength,
  blocks: blocks.byteLength,
  csr: csr.byteLength,
  sum: sum.byteLength,
  parts: parts.byteLength,
  rescaled: rescaled.byteLength,
};
const VALIDATE: Table<'validate'> = {
  dense: dense.validate,
  minifloat: minifloat.validate,
  affine: affine.validate,
  lut: lut.validate,
  blocks: blocks.validate,
  csr: csr.validate,
  sum: sum.validate,
  parts: parts.validate,
  rescaled: rescaled.validate,
};
const LAYOUT_NAME: Table<'layoutName'> = {
  dense: dense.layoutName,
  minifloat: minifloat.layoutName,
  affine: affine.layoutName,
  lut: lut.layoutName,
  blocks: blocks.layoutName,
  csr: csr.layoutName,
  sum: sum.layoutName,
  parts: parts.layoutName,
  rescaled: rescaled.layoutName,
};
const SELECT_ROWS: Table<'selectRows'> = {
  dense: dense.selectRows,
  minifloat: minifloat.selectRows,
  affine: affine.selectRows,
  lut: lut.selectRows,
  blocks: blocks.selectRows,
  csr: csr.selectRows,
  sum: sum.selectRows,
  parts: parts.selectRows,
  rescaled: rescaled.selectRows,
};

/** Layouts may nest this deep. Methods nest two or three; a file that nests more is broken or hostile. */
const MAX_DEPTH = 8;

/** What a verb does with `t`, typed for any tensor: sound because `kind` chose it. */
function verbOf<V extends keyof Verbs>(table: Table<V>, t: CompressedTensor, op: string): Layout<CompressedTensor>[V] {
  const kind: string = t?.kind;
  if (Object.hasOwn(table, kind)) return table[t.kind] as Layout<CompressedTensor>[V];
  throw new LmqError('argument/value', 'unknown layout', { op, expected: Object.keys(table).join(', '), found: kind });
}

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
  const verb = verbOf(DECODE_ROWS, t, 'decodeRows');
  checkRange(t, from, to, 'decodeRows');
  if (out.length < (to - from) * t.shape[1]) {
    throw new LmqError('argument/shape', 'out is too short', {
      op: 'decodeRows',
      expected: `at least ${to - from} x ${t.shape[1]}`,
      found: out.length,
    });
  }
  verb(t, from, to, out, decodeRows);
}

/** Bytes that the tensor takes stored, with everything that decoding needs: codes, scales, zero points, indices, tables, input scales. */
export function byteLength(t: CompressedTensor): number {
  return verbOf(BYTE_LENGTH, t, 'byteLength')(t, byteLength);
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
  const verb = verbOf(VALIDATE, t, op);
  const { shape } = t;
  if (!(Array.isArray(shape) && shape.length === 2 && shape.every((n) => Number.isInteger(n) && n > 0) && shape[0] * shape[1] <= 2 ** 53)) {
    throw new LmqError('argument/shape', `${at}.shape is not a matrix`, { op, expected: 'two positive integers', found: shape });
  }
  verb(t, at, validateAt, depth);
}

/** A short name for people: `bf16`, `affine 4-bit g128 sym`, `Q4_0` … */
export function layoutName(t: CompressedTensor): string {
  return verbOf(LAYOUT_NAME, t, 'layoutName')(t, layoutName);
}

/**
 * Rows `index`, in that order, still compressed: decoding the result gives exactly those rows. Rows may repeat. Copies what belongs
 * to rows and shares what belongs to columns (group index, tables, input scales).
 * @throws LmqError `argument/shape` for an empty index, `argument/value` for a row that does not exist
 */
export function selectRows(t: CompressedTensor, index: ArrayLike<number>): CompressedTensor {
  const verb = verbOf(SELECT_ROWS, t, 'selectRows');
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
  return verb(t, index, selectRows);
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
