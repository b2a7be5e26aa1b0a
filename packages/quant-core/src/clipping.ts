/**
 * From the range of a block to its scale and zero point: the plain range, one cut off at a magnitude (percentile, KL), or the search for
 * a narrower one that GPTQ's quantizer calls mse (IST-DASLab/gptq quant.py): candidates p = 1 - i / grid for i = 0 … maxShrink * grid - 1
 * shrink both ends, the error is Σ |q(w) - w| ** norm, and a candidate wins on strictly less; with `patience`, the search ends after so many
 * that do not win (llm-compressor's observer: maxShrink 0.2, patience 5). Its `imatrix_mse` weights each column's error and tries one candidate
 * more; patience counts for each block here, there for all blocks of a tensor together, whose results then depend on each other.
 *
 * Errors are summed in float64 (powers other than 2: by a table, relative error 1e-7); a candidate is dropped as soon as its sum reaches the
 * best so far, which cannot change the winner. Cost of the search: up to maxShrink * grid passes over the weights; of a percentile: a sort.
 * @module
 */
import { roundToFormat } from '@lmq/formats';
import { type FloatFormat, LmqError } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';
import { type PowerTable, power } from './_power.js';
import type { ImatrixClip, KlClip, MseClip } from './api.js';
import { klThreshold } from './kl.js';
import type { GridShape, PresetRule } from './presets.js';
import type { Range, StridedBlock } from './range.js';
import { tritValue } from './trits.js';

const f = Math.fround;

/** Scale and zero point of one block; of trits the positive and the negative value. */
export interface BlockParams {
  scale: number;
  zero: number;
}

/** Errors by column: the block's first column has the weight at `from`. */
export interface ColumnWeights {
  data: Float64Array;
  from: number;
}

/** Least positive number of each format: what a scale becomes that would round to zero. */
const TINY = { fp32: 2 ** -126, fp16: 2 ** -24, bf16: 2 ** -133 };

/**
 * The scale as it will be stored; never zero, because weights are divided by it.
 * @throws LmqError `argument/value` when it overflows its format
 */
export function storedScale(scale: number, format: FloatFormat): number {
  const s = roundToFormat(scale, format);
  if (s === 0) return scale < 0 ? -TINY[format] : TINY[format];
  if (!Number.isFinite(s)) {
    throw new LmqError('argument/value', `a scale does not fit ${format}`, {
      op: 'findParams',
      found: scale,
      hint: "Use scaleFormat: 'bf16' or 'fp32'.",
    });
  }
  return s;
}

/** Parameters of a range, as the preset has them; of trits its ends, -1 and 1 where all weights are zero. */
export function minMaxParams(r: Range, rule: PresetRule, symmetric: boolean, g: GridShape, out: BlockParams): BlockParams {
  if (g.trits) {
    const empty = r.min === 0 && r.max === 0;
    const high = empty ? 1 : Math.max(r.max, symmetric ? -r.min : 0);
    out.scale = symmetric ? storedScale(high, g.scaleFormat) : high;
    out.zero = symmetric ? -out.scale : empty ? -1 : Math.min(r.min, 0);
  } else if (symmetric) {
    out.scale = storedScale(rule.symmetric!(r, g), g.scaleFormat);
    out.zero = g.half;
  } else {
    const { scale, zero } = rule.asymmetric!;
    out.scale = storedScale(scale(r, g), g.scaleFormat);
    out.zero = Math.min(Math.max(zero(r, out.scale, g), 0), g.maxCode) + 0; // + 0 turns -0 into 0
  }
  return out;
}

/**
 * Parameters of the best candidate range.
 * @param norm table of `clip.norm`, or null for 2
 * @param weights null: columns count alike
 */
export function mseParams(
  b: StridedBlock,
  r: Range,
  rule: PresetRule,
  symmetric: boolean,
  g: GridShape,
  clip: Required<MseClip> | Required<ImatrixClip>,
  norm: PowerTable | null,
  weights: ColumnWeights | null,
  out: BlockParams,
): BlockParams {
  const steps = Math.floor(clip.maxShrink * clip.grid + 1e-9);
  const candidates = clip.method === 'imatrix' ? steps + 1 : Math.max(1, steps);
  const adjacent = clip.method === 'mse' && clip.adjacentZeroPoints;
  const range: Range = { min: 0, max: 0, signedMax: 0 };
  let best = Number.POSITIVE_INFINITY;
  let scale = 0;
  let zero = 0;
  let losses = 0;
  for (let i = 0; i < candidates && losses < clip.patience; i++) {
    const p = f(1 - i / clip.grid);
    range.min = f(p * r.min);
    range.max = f(p * r.max);
    range.signedMax = f(p * r.signedMax);
    minMaxParams(range, rule, symmetric, g, out);
    losses++;
    for (let turn = 0; turn < (adjacent ? 2 : 1); turn++) {
      if (turn) out.zero = adjacentZero(range, out, g);
      const error = blockError(b, out, g, norm, weights, best);
      if (error < best || (i === 0 && turn === 0)) {
        losses = 0;
        best = error;
        scale = out.scale;
        zero = out.zero;
      }
    }
  }
  out.scale = scale;
  out.zero = zero;
  return out;
}

/** The integer on the other side of the ideal zero point; the same one where the ideal is an integer. */
function adjacentZero(r: Range, { scale, zero }: BlockParams, g: GridShape): number {
  const ideal = f(-Math.min(r.min, 0) / scale);
  const below = Math.min(Math.max(Math.floor(ideal), 0), g.maxCode);
  return zero === below ? Math.min(Math.max(Math.ceil(ideal), 0), g.maxCode) : below;
}

/** Cuts a range at a magnitude. One of 0, when nearly all weights are zero, would drop the others: then the range stays. */
export function cutRange(r: Range, magnitude: number): Range {
  if (!(magnitude > 0)) return r;
  const m = f(magnitude);
  const cut = (v: number) => Math.min(Math.max(v, -m), m);
  r.min = cut(r.min);
  r.max = cut(r.max);
  r.signedMax = cut(r.signedMax);
  return r;
}

/**
 * Percentile of the magnitudes of a block, linear between order statistics.
 * @param scratch holds at least as many values as the block
 */
export function magnitudePercentile(b: StridedBlock, percentile: number, scratch: Float32Array): number {
  const n = b.rows * b.cols;
  let to = 0;
  for (let r = 0; r < b.rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < b.cols; c++, at += b.colStride) scratch[to++] = Math.abs(b.data[at]!);
  }
  const sorted = scratch.subarray(0, n).sort();
  const place = ((n - 1) * percentile) / 100;
  const low = Math.min(Math.floor(place), n - 1);
  const high = Math.min(low + 1, n - 1);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (place - low);
}

/** Magnitude at which the histogram of a block loses the least information on a grid of `levels` magnitudes. */
export function klMagnitude(b: StridedBlock, range: Range, clip: Required<KlClip>, levels: number): number {
  const largest = Math.max(-range.min, range.max);
  if (!(largest > 0)) return 0;
  const counts = new Float64Array(clip.bins);
  const perUnit = clip.bins / largest;
  for (let r = 0; r < b.rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < b.cols; c++, at += b.colStride) counts[Math.min(Math.trunc(Math.abs(b.data[at]!) * perUnit), clip.bins - 1)]!++;
  }
  return (klThreshold(counts, levels) * largest) / clip.bins;
}

/** Σ |q(w) - w| ** norm (null: squared), weighted, or something >= `limit` once that is certain. */
function blockError(
  b: StridedBlock,
  { scale, zero }: BlockParams,
  { trits, maxCode }: GridShape,
  norm: PowerTable | null,
  weights: ColumnWeights | null,
  limit: number,
): number {
  const { data, rows, cols, colStride } = b;
  let sum = 0;
  for (let r = 0; r < rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < cols; c++, at += colStride) {
      const v = data[at]!;
      const q = trits ? tritValue(v, scale, zero) : gridValue(gridCode(v, scale, zero, maxCode), scale, zero);
      const d = Math.abs(q - v);
      const error = norm ? power(norm, d) : d * d;
      sum += weights ? weights.data[weights.from + c]! * error : error;
      if ((c & 15) === 15 && sum >= limit) return sum;
    }
  }
  return sum;
}
