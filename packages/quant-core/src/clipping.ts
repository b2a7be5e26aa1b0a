/**
 * From the range of a block to its scale and zero point: the plain range, or the search for a narrower one that GPTQ's quantizer calls
 * mse (IST-DASLab/gptq quant.py): candidates p = 1 - i / grid for i = 0 … maxShrink * grid - 1 shrink both ends, the error is
 * Σ |q(w) - w| ** norm, and a candidate wins on strictly less.
 *
 * Errors are summed in float64 (powers other than 2: by a table, relative error 1e-7); a candidate is dropped as soon as its sum reaches the best so far, which cannot change the winner.
 * Cost of the search: up to maxShrink * grid passes over the weights.
 * @module
 */
import { roundToFormat } from '@lmq/formats';
import { LmqError } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';
import { type PowerTable, power } from './_power.js';
import type { MseOpts } from './api.js';
import type { GridShape, PresetRule } from './presets.js';
import type { Range, StridedBlock } from './range.js';

const f = Math.fround;

/** Scale and zero point of one block. */
export interface BlockParams {
  scale: number;
  zero: number;
}

/** Least positive number of each format: what a scale becomes that would round to zero. */
const TINY = { fp32: 2 ** -126, fp16: 2 ** -24, bf16: 2 ** -133 };

/** The scale as it will be stored; never zero, because weights are divided by it. */
function stored(scale: number, g: GridShape): number {
  const s = roundToFormat(scale, g.scaleFormat);
  if (s === 0) return scale < 0 ? -TINY[g.scaleFormat] : TINY[g.scaleFormat];
  if (!Number.isFinite(s)) {
    throw new LmqError('argument/value', `a scale does not fit ${g.scaleFormat}`, {
      op: 'findParams',
      found: scale,
      hint: "Use scaleFormat: 'bf16' or 'fp32'.",
    });
  }
  return s;
}

/** Parameters of a range, as the preset has them. */
export function minMaxParams(r: Range, rule: PresetRule, symmetric: boolean, g: GridShape, out: BlockParams): BlockParams {
  if (symmetric) {
    out.scale = stored(rule.symmetric!(r, g), g);
    out.zero = g.half;
  } else {
    const { scale, zero } = rule.asymmetric!;
    out.scale = stored(scale(r, g), g);
    out.zero = Math.min(Math.max(zero(r, out.scale, g), 0), g.maxCode) + 0; // + 0 turns -0 into 0
  }
  return out;
}

/**
 * Parameters of the best candidate range.
 * @param norm table of `mse.norm`, or null for 2
 */
export function mseParams(
  b: StridedBlock,
  r: Range,
  rule: PresetRule,
  symmetric: boolean,
  g: GridShape,
  mse: Required<MseOpts>,
  norm: PowerTable | null,
  out: BlockParams,
): BlockParams {
  const candidates = Math.max(1, Math.floor(mse.maxShrink * mse.grid + 1e-9));
  const range: Range = { min: 0, max: 0, signedMax: 0 };
  let best = Number.POSITIVE_INFINITY;
  let scale = 0;
  let zero = 0;
  for (let i = 0; i < candidates; i++) {
    const p = f(1 - i / mse.grid);
    range.min = f(p * r.min);
    range.max = f(p * r.max);
    range.signedMax = f(p * r.signedMax);
    minMaxParams(range, rule, symmetric, g, out);
    const error = blockError(b, out.scale, out.zero, g.maxCode, norm, best);
    if (error < best || i === 0) {
      best = error;
      scale = out.scale;
      zero = out.zero;
    }
  }
  out.scale = scale;
  out.zero = zero;
  return out;
}

/** Σ |q(w) - w| ** norm (null: squared), or something >= `limit` once that is certain. */
function blockError(b: StridedBlock, scale: number, zero: number, maxCode: number, norm: PowerTable | null, limit: number): number {
  const { data, rows, cols, colStride } = b;
  let sum = 0;
  for (let r = 0; r < rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < cols; c++, at += colStride) {
      const v = data[at]!;
      const d = Math.abs(gridValue(gridCode(v, scale, zero, maxCode), scale, zero) - v);
      sum += norm ? power(norm, d) : d * d;
      if ((c & 15) === 15 && sum >= limit) return sum;
    }
  }
  return sum;
}
