/**
 * Layout `lut`: table look-up, `w = table[code] * scale`. The product is made in double (exact) and rounded once, to float32.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { contiguous, LmqError, type Lut, ndarray, sizeOf } from '@lmq/tensor';
import { rowBytes, unpackInto } from '../packing.js';
import { gatherRows, multiplyScales, scaleBytes, scalesName, selectScales, validateScales } from '../scales.js';
import { expectArray, expectBits, expectLength } from './_layout.js';

export function decodeRows(t: Lut, from: number, to: number, out: Float32Array): void {
  const cols = t.shape[1];
  const step = rowBytes(cols, t.bits);
  const tables = contiguous(t.tables);
  const size = 2 ** t.bits;
  const byColumn = t.tablePer === 'column' ? size : 0;
  const byRow = t.tablePer === 'row' ? size : 0;
  const row = new Uint8Array(cols);
  for (let r = from; r < to; r++) {
    unpackInto(t.codes, r * step, 0, t.bits, cols, row, 0);
    const o = (r - from) * cols;
    let table = r * byRow;
    for (let c = 0; c < cols; c++, table += byColumn) out[o + c] = tables[table + row[c]];
  }
  if (t.scales) multiplyScales(t.scales, t.shape, from, to, out);
}

export function byteLength(t: Lut): number {
  return t.codes.byteLength + 4 * sizeOf(t.tables.shape) + (t.scales ? scaleBytes(t.scales) : 0);
}

export function validate(t: Lut, at: string): void {
  const [rows, cols] = t.shape;
  const op = 'validate';
  expectBits(t.bits, `${at}.bits`);
  expectArray(t.codes, 'Uint8Array', `${at}.codes`);
  expectLength(t.codes.length, rows * rowBytes(cols, t.bits), `${at}.codes`);
  const counts: Record<Lut['tablePer'], number> = { tensor: 1, row: rows, column: cols };
  if (!Object.hasOwn(counts, t.tablePer)) {
    throw new LmqError('argument/value', `${at}.tablePer is unknown`, { op, expected: Object.keys(counts).join(', '), found: t.tablePer });
  }
  expectArray(t.tables.data, 'Float32Array', `${at}.tables`);
  const want = [counts[t.tablePer], 2 ** t.bits];
  const { shape } = t.tables;
  if (shape.length !== 2 || shape[0] !== want[0] || shape[1] !== want[1]) {
    throw new LmqError('argument/shape', `${at}.tables has the wrong shape`, {
      op,
      expected: `[${want.join(', ')}]`,
      found: `[${shape.join(', ')}]`,
    });
  }
  const bad = contiguous(t.tables).findIndex((x) => !Number.isFinite(x)); // throws when the tensor leaves its data
  if (bad >= 0) throw new LmqError('argument/value', `${at}.tables element ${bad} is not finite`, { op });
  if (t.scales) validateScales(t.scales, t.shape, `${at}.scales`);
}

export function layoutName(t: Lut): string {
  const scales = t.scales ? `, scales ${scalesName(t.scales)}` : '';
  return `lut ${t.bits}-bit per ${t.tablePer}${scales}`;
}

export function selectRows(t: Lut, index: ArrayLike<number>): Lut {
  const cols = t.shape[1];
  const out: Lut = { ...t, shape: [index.length, cols], codes: gatherRows(t.codes, rowBytes(cols, t.bits), index) };
  if (t.tablePer === 'row') {
    const size = 2 ** t.bits;
    out.tables = ndarray(gatherRows(contiguous(t.tables), size, index), [index.length, size]);
  }
  if (t.scales) out.scales = selectScales(t.scales, t.shape, index);
  return out;
}
