/**
 * Layout `csr`, compressed sparse rows: the few weights that are not zero, row after row. Decoding is exact.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { type Csr, LmqError } from '@lmq/tensor';
import { checkFloatData, decodeFloats, encodeFloats } from '../floats.js';
import { expectArray, expectLength } from './_layout.js';

/** Compresses the weights of a row-major matrix that are not 0; their values are rounded to `format`. */
export function encodeCsr(format: Csr['format'], w: Float32Array, rows: number, cols: number): Csr {
  const rowStart = new Uint32Array(rows + 1);
  const columns: number[] = [];
  const values: number[] = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const v = w[r * cols + c]!;
      if (v === 0) continue;
      columns.push(c);
      values.push(v);
    }
    rowStart[r + 1] = columns.length;
  }
  const data = encodeFloats(format, Float32Array.from(values));
  return { kind: 'csr', shape: [rows, cols], format, rowStart, columns: Uint32Array.from(columns), data };
}

export function decodeRows(t: Csr, from: number, to: number, out: Float32Array): void {
  const cols = t.shape[1];
  out.fill(0, 0, (to - from) * cols);
  const first = t.rowStart[from]!;
  const values = decodeFloats(t.format, t.data, undefined, first, t.rowStart[to]!);
  for (let r = from; r < to; r++) {
    for (let i = t.rowStart[r]!; i < t.rowStart[r + 1]!; i++) out[(r - from) * cols + t.columns[i]!] = values[i - first]!;
  }
}

export function byteLength(t: Csr): number {
  return t.rowStart.byteLength + t.columns.byteLength + t.data.byteLength;
}

export function validate(t: Csr, at: string): void {
  const op = 'validate';
  const [rows, cols] = t.shape;
  expectArray(t.rowStart, 'Uint32Array', `${at}.rowStart`);
  expectArray(t.columns, 'Uint32Array', `${at}.columns`);
  checkFloatData(t.format, t.data, op);
  expectLength(t.rowStart.length, rows + 1, `${at}.rowStart`);
  expectLength(t.data.length, t.columns.length, `${at}.data`);
  if (t.rowStart[0] !== 0 || t.rowStart[rows] !== t.columns.length) {
    throw new LmqError('argument/value', `${at}.rowStart does not cover the columns`, {
      op,
      expected: `0 … ${t.columns.length}`,
      found: `${t.rowStart[0]} … ${t.rowStart[rows]}`,
    });
  }
  for (let r = 0; r < rows; r++) {
    if (t.rowStart[r]! > t.rowStart[r + 1]!)
      throw new LmqError('argument/value', `${at}.rowStart[${r + 1}] is below the one before it`, { op, found: t.rowStart[r + 1] });
    for (let i = t.rowStart[r]!, least = 0; i < t.rowStart[r + 1]!; i++) {
      const c = t.columns[i];
      // a row that goes beyond the columns is found here, before the end of rowStart would tell
      if (c === undefined || c < least || c >= cols) {
        throw new LmqError('argument/value', `${at}.columns[${i}] does not rise within the row`, {
          op,
          expected: `${least} … ${cols - 1}`,
          found: c,
        });
      }
      least = c + 1;
    }
  }
}

export function layoutName(t: Csr): string {
  return `csr ${t.format}`;
}

export function selectRows(t: Csr, index: ArrayLike<number>): Csr {
  const rowStart = new Uint32Array(index.length + 1);
  for (let i = 0; i < index.length; i++) rowStart[i + 1] = rowStart[i]! + t.rowStart[index[i]! + 1]! - t.rowStart[index[i]!]!;
  const columns = new Uint32Array(rowStart[index.length]!);
  const data = t.format === 'fp32' ? new Float32Array(columns.length) : new Uint16Array(columns.length);
  for (let i = 0; i < index.length; i++) {
    const [from, to] = [t.rowStart[index[i]!]!, t.rowStart[index[i]! + 1]!];
    columns.set(t.columns.subarray(from, to), rowStart[i]);
    data.set(t.data.subarray(from, to), rowStart[i]);
  }
  return { ...t, shape: [index.length, t.shape[1]], rowStart, columns, data };
}
