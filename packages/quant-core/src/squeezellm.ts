/**
 * SqueezeLLM (Kim et al. 2023, arXiv 2306.07629): a table of 2^bits values for each output row, the centres of a k-means in which each weight
 * counts by the sensitivity of the loss to it; and, dense-and-sparse, a few outliers kept beside it. Reference: SqueezeAILab/SqueezeLLM.
 *
 * Sensitivity: the Fisher information, Σ of squared gradients (the paper); without it the diagonal of the Hessian of the layer's outputs, E[x²]
 * of each input, the same for all rows: a variant of ours that needs no backward pass, `hessian-diagonal` in reports; with neither, weights
 * count alike (`uniform`).
 *
 * Differences from the published code: k-means is exact (there, scikit-learn's from one start); weights that are 0 count like others (there, not
 * at all); outliers hold what is missing from the nearest table value (there, from the one nearest to 0), so that less is rounded; rows with the
 * most outliers can be kept whole (there, their outliers are only multiplied as a dense row).
 *
 * Statistics in float64. O(2^bits · in · log in) for each row: about 5 ms for 4096 inputs at 4 bits.
 * @module
 */
import { countNonFinite, decode, encodeCsr, encodeFloats, packRows } from '@lmq/formats';
import {
  type CompressedTensor,
  checkInteger,
  checkOneOf,
  contiguous,
  createPhase,
  type FloatFormat,
  type Linear,
  LmqError,
  type LongCallOpts,
  type Lut,
  matrix,
  matrixShape,
  nextTurn,
  type Parts,
  type Sum,
  type Tensor,
} from '@lmq/tensor';
import { costOf } from './_report.js';
import type { LinearStats, Quantized, QuantizedLinear, QuantReport } from './api.js';
import { checkFinite } from './finite.js';
import { diagonalOf } from './importance.js';
import { kmeans1d } from './kmeans.js';
import { checkOutliers, findOutliers, type OutlierOpts } from './outliers.js';

/** What a weight counts by: Σ of squared gradients, the diagonal of the Hessian, or nothing. */
export type Sensitivity = 'fisher' | 'hessian-diagonal' | 'uniform';

export interface SparseOpts extends OutlierOpts {
  /** Rows kept whole, those with the most outliers. Default 0. */
  fullRows?: number;
  /** How outliers and whole rows are stored. Default `fp16`. */
  format?: FloatFormat;
}

export interface SqueezeLlmOpts extends LongCallOpts {
  /** 1 to 8. Default 4. */
  bits?: number;
  /** Dense-and-sparse; true: its defaults. Default false: the tables hold every weight. */
  sparse?: boolean | SparseOpts;
  /** Default: the best that the statistics have. */
  sensitivity?: Sensitivity;
}

export interface SqueezeLlmReport extends QuantReport {
  method: 'squeezellm';
  sensitivity: Sensitivity;
  /** Weights kept apart. */
  outliers: number;
  /** Rows kept whole. */
  fullRows: number;
}

/** A table for each row; with outliers, and with whole rows. */
export type SqueezeLlmWeight = Lut | Sum | Parts;

/** Longest stretch of work without letting the event loop run. */
const TURN_MS = 40;

/**
 * Quantizes a matrix.
 * @param w [out, in]
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinite weights, a sensitivity that is negative or not finite);
 * or `signal.reason` when aborted
 */
export async function squeezellm(
  w: Tensor,
  stats: LinearStats = {},
  opts: SqueezeLlmOpts = {},
): Promise<Quantized<SqueezeLlmReport, SqueezeLlmWeight>> {
  const op = 'squeezellm';
  const start = performance.now();
  const [rows, cols] = matrixShape(w, op);
  checkSqueezeLlm(opts);
  checkFinite(w, 'the weight', op);
  const { bits = 4 } = opts;
  const sparse = opts.sparse === true ? {} : opts.sparse || null;
  const { kind, values: sensitivity } = sensitivityOf(stats, opts.sensitivity, rows, cols);
  const weights = Float32Array.from(contiguous(w));
  const apart = sparse ? findOutliers(weights, sensitivity, sparse) : new Uint8Array(weights.length);
  const { full, rest } = fullRows(apart, rows, cols, sparse?.fullRows ?? 0);

  const size = 2 ** bits;
  const tables = new Float32Array(rest.length * size);
  const codes = new Uint8Array(rest.length * cols);
  const missing = new Float32Array(sparse ? codes.length : 0);
  const step = createPhase('squeezellm', rest.length, 'rows', opts);
  let turn = performance.now();
  for (const [i, r] of rest.entries()) {
    const row = weights.subarray(r * cols, (r + 1) * cols);
    const counts = row.map((_, c) => (apart[r * cols + c] ? 0 : (sensitivity?.[r * cols + c] ?? 1)));
    const table = tables.subarray(i * size, (i + 1) * size);
    tableOf(row, counts, apart.subarray(r * cols, (r + 1) * cols), table);
    const found = codes.subarray(i * cols, (i + 1) * cols);
    nearest(row, table, found);
    if (sparse) for (let c = 0; c < cols; c++) if (apart[r * cols + c]) missing[i * cols + c] = row[c]! - table[found[c]!]!;
    if (performance.now() - turn < TURN_MS) continue;
    await nextTurn();
    step(i + 1);
    turn = performance.now();
  }
  step(rest.length);

  const shape: [number, number] = [rest.length, cols];
  const format = sparse?.format ?? 'fp16';
  const lut: Lut = {
    kind: 'lut',
    shape,
    bits,
    codes: packRows(codes, bits, rest.length, cols),
    tables: matrix(tables, rest.length, size),
    tablePer: 'row',
  };
  const outliers = apart.reduce((n, a, i) => n + (a && !full.includes(Math.floor(i / cols)) ? 1 : 0), 0);
  const dense: SqueezeLlmWeight = outliers ? { kind: 'sum', shape, terms: [lut, encodeCsr(format, missing, rest.length, cols)] } : lut;
  const weight = full.length ? withFullRows(dense, weights, full, rest, rows, cols, format) : dense;
  if (countNonFinite(weight)) {
    throw new LmqError('argument/value', `weights that are kept apart are beyond ${format}`, {
      op,
      hint: "Set sparse.format 'fp32' or 'bf16'.",
    });
  }
  const report: SqueezeLlmReport = {
    method: 'squeezellm',
    bits,
    groupSize: -1,
    symmetric: false,
    sensitivity: kind,
    outliers,
    fullRows: full.length,
    ...costOf(w, weight, stats.hessian, start),
  };
  return { weight, report };
}

/** {@link squeezellm} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first. */
export async function squeezellmLinear(
  linear: Linear,
  stats: LinearStats,
  opts: SqueezeLlmOpts = {},
): Promise<QuantizedLinear<SqueezeLlmReport>> {
  const { weight, report } = await squeezellm(decode(linear.weight), stats, opts);
  return { linear: { ...linear, weight }, report };
}

/** @throws LmqError `argument/option` */
export function checkSqueezeLlm({ bits = 4, sparse = false, sensitivity }: SqueezeLlmOpts): void {
  const op = 'squeezellm';
  checkInteger(bits, 'bits', 1, 8, op);
  if (sensitivity !== undefined) checkOneOf(sensitivity, 'sensitivity', ['fisher', 'hessian-diagonal', 'uniform'], op);
  if (typeof sparse === 'boolean') return;
  checkOutliers(sparse, op);
  checkInteger(sparse.fullRows ?? 0, 'sparse.fullRows', 0, 2 ** 31, op);
  checkOneOf(sparse.format ?? 'fp16', 'sparse.format', ['fp32', 'fp16', 'bf16'], op);
}

/** One number for each weight, or null where all count alike. */
function sensitivityOf(
  { fisher, hessian }: LinearStats,
  wanted: Sensitivity | undefined,
  rows: number,
  cols: number,
): { kind: Sensitivity; values: Float32Array | null } {
  const op = 'squeezellm';
  const kind = wanted ?? (fisher ? 'fisher' : hessian ? 'hessian-diagonal' : 'uniform');
  if (kind === 'uniform') return { kind, values: null };
  const given = kind === 'fisher' ? fisher : hessian;
  if (!given) {
    throw new LmqError('argument/option', `sensitivity ${kind} needs ${kind === 'fisher' ? 'squared gradients' : 'a Hessian'}`, {
      op,
      hint: "Give it with the statistics, or choose another sensitivity: 'uniform' needs none.",
    });
  }
  const [r, c] = matrixShape(given, op);
  if (c !== cols || r !== (kind === 'fisher' ? rows : cols)) {
    throw new LmqError('argument/shape', `the statistics for sensitivity ${kind} do not fit the weight`, {
      op,
      expected: kind === 'fisher' ? `${rows} x ${cols}` : `${cols} x ${cols}`,
      found: `${r} x ${c}`,
    });
  }
  const values = new Float32Array(rows * cols);
  if (kind === 'fisher') values.set(contiguous(given));
  else {
    const diagonal = Float32Array.from(diagonalOf(given));
    for (let i = 0; i < rows; i++) values.set(diagonal, i * cols);
  }
  const bad = values.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY));
  if (bad >= 0) {
    throw new LmqError('argument/value', `the sensitivity of [${Math.floor(bad / cols)}, ${bad % cols}] is no sum of squares`, {
      op,
      found: values[bad],
    });
  }
  return { kind, values };
}

/** The rows with the most outliers, and the others; both rising. Of equally many, the first. */
function fullRows(apart: Uint8Array, rows: number, cols: number, count: number): { full: number[]; rest: number[] } {
  const all = Array.from({ length: rows }, (_, r) => r);
  if (count === 0) return { full: [], rest: all };
  if (count >= rows) {
    throw new LmqError('argument/option', 'sparse.fullRows leaves nothing to quantize', {
      op: 'squeezellm',
      expected: `at most ${rows - 1}`,
      found: count,
    });
  }
  const outliers = all.map((r) => apart.subarray(r * cols, (r + 1) * cols).reduce((n, a) => n + a, 0));
  const full = new Set(
    all
      .slice()
      .sort((a, b) => outliers[b]! - outliers[a]! || a - b)
      .slice(0, count),
  );
  return { full: all.filter((r) => full.has(r)), rest: all.filter((r) => !full.has(r)) };
}

/** Fills a row's table, rising; with fewer different weights than it has places, the last value is repeated. */
function tableOf(row: Float32Array, counts: Float32Array, apart: Uint8Array, table: Float32Array): void {
  const used = row.filter((_, c) => !apart[c]);
  if (used.length === 0) return; // all are kept apart
  const centres = kmeans1d(
    used,
    counts.filter((_, c) => !apart[c]),
    table.length,
  );
  table.fill(centres[centres.length - 1]!);
  table.set(centres);
}

/** The code of the nearest value of a rising table for each weight; of two equally near ones the smaller. */
function nearest(row: Float32Array, table: Float32Array, codes: Uint8Array): void {
  for (let c = 0; c < row.length; c++) {
    const x = row[c]!;
    let lo = 0;
    let hi = table.length - 1;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (table[mid]! + table[mid + 1]! < 2 * x) lo = mid + 1;
      else hi = mid;
    }
    codes[c] = lo;
  }
}

function withFullRows(
  base: CompressedTensor,
  weights: Float32Array,
  full: number[],
  rest: number[],
  rows: number,
  cols: number,
  format: FloatFormat,
): Parts {
  const values = new Float32Array(full.length * cols);
  for (const [i, r] of full.entries()) values.set(weights.subarray(r * cols, (r + 1) * cols), i * cols);
  const whole = { kind: 'dense' as const, shape: [full.length, cols] as [number, number], format, data: encodeFloats(format, values) };
  return {
    kind: 'parts',
    shape: [rows, cols],
    axis: 'out',
    parts: [
      { index: Uint32Array.from(full), base: whole },
      { index: Uint32Array.from(rest), base },
    ],
  };
}
