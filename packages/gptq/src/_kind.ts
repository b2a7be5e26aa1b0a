/**
 * Kinds of grids: how their parameters are found, what the sweep rounds to, and how the result is stored.
 * @module
 */
import { AF4, BITSANDBYTES_FP4, encodeTable4, NF4, packRows } from '@lmq/formats';
import {
  type AffineParams,
  type ColumnGrid,
  fitScheme,
  type Quantized,
  rtn,
  type Scheme,
  type Table4Name,
  type Trits,
  toAffine,
  toTrits,
} from '@lmq/quant-core';
import { contiguous, type Lut, matrix, matrixShape, ndarray, type Scope, type Tensor } from '@lmq/tensor';
import type { GptqOpts } from './api.js';

export type GptqWeight = Quantized['weight'] | Trits;

export interface GridKind {
  /** Parameters of every group of `w`. */
  fit(w: Tensor, scheme: Scheme, importance?: ArrayLike<number>): AffineParams;
  /** The grid of one group, from its parameters in each row. */
  columns(s: Scope, scales: Float32Array, zeroPoints: Float32Array): ColumnGrid;
  /** @param groupIndex group of each column, when columns are not grouped in order */
  store(scheme: Scheme, shape: [rows: number, cols: number], codes: Uint8Array, params: AffineParams, groupIndex?: Int32Array): GptqWeight;
  /** Round to nearest, where there is no factor to sweep with. */
  nearest(w: Tensor, importance: Float64Array | undefined): GptqWeight;
}

const TABLES: Readonly<Record<Table4Name, ArrayLike<number>>> = { nf4: NF4, fp4: BITSANDBYTES_FP4, af4: AF4 };

export function gridKind(opts: GptqOpts): GridKind {
  if (opts.table !== undefined) return tableKind(opts.table, opts.groupSize ?? -1);
  const nearest: GridKind['nearest'] = (w, importance) => rtn(w, { ...opts, importance }).weight;
  return opts.trits
    ? { fit: fitScheme, columns: tritColumns, store: toTrits, nearest }
    : { fit: fitScheme, columns: affineColumns, store: toAffine, nearest };
}

function affineColumns(s: Scope, scales: Float32Array, zeroPoints: Float32Array): ColumnGrid {
  const rows = scales.length;
  return { scales: s.upload(ndarray(scales, [rows, 1])), zeroPoints: s.upload(ndarray(zeroPoints, [rows, 1])) };
}

/** In the order of their codes. */
function tritColumns(s: Scope, positive: Float32Array, negative: Float32Array): ColumnGrid {
  const rows = positive.length;
  const tables = new Float32Array(3 * rows);
  for (let r = 0; r < rows; r++) tables.set([0, negative[r]!, positive[r]!], 3 * r);
  return { tables: s.upload(ndarray(tables, [rows, 3])) };
}

/** A fixed table times the largest magnitude of each group, as bitsandbytes has it: groups of a row are runs that end with the row. */
function tableKind(name: Table4Name, groupSize: number): GridKind {
  const table = Float32Array.from(TABLES[name]);
  return {
    fit(w, { block: [, size], groups }) {
      const [rows, cols] = matrixShape(w, 'gptq');
      const values = contiguous(w);
      const scales = new Float32Array(rows * groups);
      for (let r = 0; r < rows; r++)
        for (let c = 0; c < cols; c++) {
          const at = r * groups + Math.floor(c / size);
          scales[at] = Math.max(scales[at]!, Math.abs(values[r * cols + c]!));
        }
      return { scales, zeroPoints: new Float32Array(scales.length), rows, groups };
    },
    columns(s, scales) {
      const tables = new Float32Array(16 * scales.length);
      for (let r = 0; r < scales.length; r++) for (let k = 0; k < 16; k++) tables[16 * r + k] = table[k]! * scales[r]!;
      return { tables: s.upload(ndarray(tables, [scales.length, 16])) };
    },
    store: ({ block }, [rows, cols], codes, { scales }): Lut => ({
      kind: 'lut',
      shape: [rows, cols],
      bits: 4,
      codes: packRows(codes, 4, rows, cols),
      tables: matrix(table.slice(), 1, 16),
      tablePer: 'tensor',
      scales: { block: { flat: block[1] }, format: 'fp32', data: scales },
    }),
    nearest: (w) => encodeTable4(name, w, { blockSize: groupSize < 0 ? matrixShape(w, 'gptq')[1] : groupSize }),
  };
}
