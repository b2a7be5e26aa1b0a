/**
 * Scales and zero points of a weight matrix, block by block.
 *
 * Arithmetic is float32 as in the sources of the presets; scales are rounded to their stored format first, and zero points are found
 * with the rounded scale, so what is stored is what is used. One pass over the weights; with `clip: 'mse'` up to 81, with `imatrix` 21.
 * @module
 */
import { matrixShape, type Tensor } from '@lmq/tensor';
import { powerTable } from './_power.js';
import { stridesOf } from './_rows.js';
import type { AffineOpts, AffineParams, Scheme } from './api.js';
import { type BlockParams, type ColumnWeights, cutRange, klMagnitude, magnitudePercentile, minMaxParams, mseParams } from './clipping.js';
import { importanceWeights } from './importance.js';
import { presetRule } from './presets.js';
import { type Range, rangeOf, type StridedBlock } from './range.js';
import { gridShape, resolveScheme } from './scheme.js';

export interface FindParamsOpts extends AffineOpts {
  /** For `clip: 'imatrix'`: E[x²] of each input column, up to a factor. */
  importance?: ArrayLike<number>;
}

/**
 * Finds the parameters of every group. To fit a part of a matrix pass a view of it (`w.lo(0, from).hi(rows, count)`).
 * @param w [out, in], any strides, finite
 * @returns scales and zero points, `[out, groups]` (`[1, 1]` per tensor)
 * @throws LmqError `argument/option`, `argument/shape`, or `argument/value` when a scale overflows its format
 */
export function findParams(w: Tensor, opts: FindParamsOpts): AffineParams {
  const [rows, cols] = matrixShape(w, 'findParams');
  return fitScheme(w, resolveScheme(opts, rows, cols, 'findParams'), opts.importance);
}

/** {@link findParams} with options already resolved for the shape of `w`. */
export function fitScheme(w: Tensor, scheme: Scheme, importance?: ArrayLike<number>): AffineParams {
  const [rows, cols] = matrixShape(w, 'findParams');
  const [rowStride, colStride] = stridesOf(w);
  const [blockRows, blockCols] = scheme.block;
  const paramRows = rows / blockRows;
  const { groups, symmetric, clip } = scheme;
  const grid = gridShape(scheme);
  const rule = presetRule(scheme.preset, symmetric, scheme.bits, 'findParams');
  const scales = new Float32Array(paramRows * groups);
  const zeroPoints = new Float32Array(paramRows * groups);
  const block: StridedBlock = { data: w.data, offset: 0, rows: blockRows, rowStride, cols: blockCols, colStride };
  const range: Range = { min: 0, max: 0, signedMax: 0 };
  const search = clip.method === 'mse' || clip.method === 'imatrix' ? clip : null;
  const norm = search && search.norm !== 2 ? powerTable(search.norm) : null;
  const data = clip.method === 'imatrix' ? importanceWeights(importance, cols) : null;
  const weights: ColumnWeights | null = data && { data, from: 0 };
  const scratch = new Float32Array(clip.method === 'percentile' ? blockRows * blockCols : 0);
  const found: BlockParams = { scale: 0, zero: 0 };
  for (let r = 0, i = 0; r < paramRows; r++) {
    for (let c = 0; c < cols; c += blockCols, i++) {
      block.offset = w.offset + r * blockRows * rowStride + c * colStride;
      rangeOf(block, range);
      if (clip.method === 'percentile') cutRange(range, magnitudePercentile(block, clip.percentile, scratch));
      if (clip.method === 'kl') cutRange(range, klMagnitude(block, range, clip, grid.half));
      if (weights) weights.from = c;
      if (search) mseParams(block, range, rule, symmetric, grid, search, norm, weights, found);
      else minMaxParams(range, rule, symmetric, grid, found);
      scales[i] = found.scale;
      zeroPoints[i] = found.zero;
    }
  }
  return { scales, zeroPoints, rows: paramRows, groups };
}
