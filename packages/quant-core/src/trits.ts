/**
 * Trits: a weight is a negative value, zero or a positive one (IST-DASLab/gptq, quant.py, maxq -1): the positive value if w > half of it,
 * the negative one if w < half of it, else zero. So it is the nearest of the three, zero where two are equally near.
 *
 * Stored as a table of codes 0 (zero), 1 (negative), 2 (positive), 3 (unused, zero): symmetric ones as -1, 0, 1 times a scale; others as a table
 * for each row, in parts by group. Difference from the published code: a symmetric group without negative values has its negative value too,
 * which only error feedback can ask for.
 * @module
 */
import { encodeFloats, packRows } from '@lmq/formats';
import { type Lut, ndarray } from '@lmq/tensor';
import type { AffineParams, Scheme, Trits } from './api.js';

/** Code of a finite weight. */
export function tritCode(w: number, positive: number, negative: number): number {
  return w > positive / 2 ? 2 : w < negative / 2 ? 1 : 0;
}

/** Value of the nearest code. */
export function tritValue(w: number, positive: number, negative: number): number {
  return w > positive / 2 ? positive : w < negative / 2 ? negative : 0;
}

/**
 * Packs codes and values.
 * @param codes one code per byte, [rows, cols] row-major, columns in their original order
 * @param groupIndex group of each column, when columns are not grouped in order
 */
export function toTrits(
  scheme: Scheme,
  shape: readonly [rows: number, cols: number],
  codes: Uint8Array,
  params: AffineParams,
  groupIndex?: Int32Array,
): Trits {
  const [rows, cols] = shape;
  const { groups } = params;
  if (scheme.symmetric && !groupIndex) return tritLut(scheme, codes, rows, cols, params.scales, null);
  const columns: number[][] = Array.from({ length: groups }, () => []);
  for (let c = 0; c < cols; c++) columns[groupIndex ? groupIndex[c]! : Math.floor(c / scheme.block[1])]!.push(c);
  const parts = columns.map((index, group) => {
    const slice = new Uint8Array(rows * index.length);
    for (let r = 0, to = 0; r < rows; r++) for (const c of index) slice[to++] = codes[r * cols + c]!;
    const pick = (v: Float32Array) => Float32Array.from({ length: params.rows }, (_, r) => v[r * groups + group]!);
    const negative = scheme.symmetric ? null : pick(params.zeroPoints);
    return { index: Uint32Array.from(index), base: tritLut(scheme, slice, rows, index.length, pick(params.scales), negative) };
  });
  return groups === 1 ? parts[0]!.base : { kind: 'parts', shape: [rows, cols], axis: 'in', parts };
}

/** @param negative null: symmetric */
function tritLut(
  scheme: Scheme,
  codes: Uint8Array,
  rows: number,
  cols: number,
  positive: Float32Array,
  negative: Float32Array | null,
): Lut {
  const lut = { kind: 'lut' as const, shape: [rows, cols] as [number, number], bits: 2, codes: packRows(codes, 2, rows, cols) };
  if (!negative) {
    const [blockRows, blockCols] = scheme.block;
    const data = encodeFloats(scheme.scaleFormat, positive);
    const scales = { block: [blockRows, Math.min(blockCols, cols)] as [number, number], format: scheme.scaleFormat, data };
    return { ...lut, tables: ndarray(Float32Array.of(0, -1, 1, 0), [1, 4]), tablePer: 'tensor', scales };
  }
  const n = positive.length;
  const tables = new Float32Array(4 * n);
  for (let r = 0; r < n; r++) tables.set([0, negative[r]!, positive[r]!, 0], 4 * r);
  return { ...lut, tables: ndarray(tables, [n, 4]), tablePer: scheme.granularity === 'tensor' ? 'tensor' : 'row' };
}
