/**
 * HQQ, half-quadratic quantization (Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"): the scale of a group
 * spans its range, and its zero point, a real number, is moved so that Σ |w - ŵ|^p with p < 1 becomes small: outliers may be wrong, the others
 * shall be right. Needs no data. Reference: mobiusml/hqq, core/quantize.py and optimize.py.
 *
 * Each iteration rounds to codes q, splits the error e = w - ŵ into outliers o = sign(e) max(0, |e| - |e|^(p - 1) / β), and sets the zero point
 * to the mean of q - (w - o) / scale.
 *
 * Differences from the published code: the iteration, which stops at the first resting place of a zero point, starts at the best of nine within
 * half a step of the range's own (on lmq-nano, groups of 64: squared error of the weights 5 % smaller at 2, 3 and 4 bits, for 1.3 times the
 * time); every group goes on until its zero point stands still (there, the mean |e| of the whole matrix stops all
 * groups when it rises, though the mean of |e| is not what the steps make small); β grows by κ, as published (there, κ is a parameter without
 * effect); scale and zero point are rounded to their stored format before codes are chosen (there, after);
 * groups of small numbers keep their scale (there, ranges below 1e-4 get a scale of 1 and scales stay above 5e-5); and a range so far from
 * zero that the stored zero point could not tell codes apart is widened to zero. `referenceCompat` brings the published code back.
 * At 4 bits zero points start at integers, as its configuration says.
 *
 * float32 at every step, as the reference on a CPU; means are added up in float64. O(out · in · iters).
 * @module
 */
import { decode, encodeFloats, packRows, rint, roundToFormat } from '@lmq/formats';
import {
  type Affine,
  checkInteger,
  checkOneOf,
  contiguous,
  type FloatFormat,
  type Linear,
  LmqError,
  matrixShape,
  type Tensor,
} from '@lmq/tensor';
import { costOf } from './_report.js';
import type { LinearStats, Quantized, QuantizedLinear, QuantReport } from './api.js';
import { checkFinite } from './finite.js';

const f = Math.fround;

export interface HqqOpts {
  /** 1 to 8. Default 4, and 2 for trits. */
  bits?: number;
  /** Three levels instead of four, in 2 bits: what HQQ calls 1.58 bits. Default false. */
  trits?: boolean;
  /** Input columns per scale; must divide the row. -1: one scale per row. Default 64. */
  groupSize?: number;
  /** How scales and zero points are stored. Default `fp16`. */
  scaleFormat?: FloatFormat;
  /** Exponent p of the error, above 0 and at most 1. Default 0.7. */
  lpNorm?: number;
  /** Weight β of the split; larger: fewer outliers are allowed for. Default 10. */
  beta?: number;
  /** Growth of β in each iteration, at least 1. Default 1.01. */
  kappa?: number;
  /** At most so many. 0: the range alone decides. Default 20. */
  iters?: number;
  /** Reproduce the published code. Default false. */
  referenceCompat?: boolean;
  /** [in, in]; to report the proxy loss. */
  hessian?: Tensor;
}

export interface HqqReport extends QuantReport {
  method: 'hqq';
}

type Solver = Required<Omit<HqqOpts, 'hessian' | 'groupSize'>> & { size: number; maxCode: number };

/**
 * Quantizes a matrix.
 * @param w [out, in]
 * @throws LmqError `argument/option`, `argument/value` (NaN or infinite weights, or a scale beyond `scaleFormat`)
 */
export function hqq(w: Tensor, opts: HqqOpts = {}): Quantized<HqqReport> {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'hqq');
  const solver = resolve(opts, cols);
  checkFinite(w, 'the weight', 'hqq');
  const { bits, trits, size, scaleFormat } = solver;
  const values = Float32Array.from(contiguous(w));
  const count = values.length / size;
  const scales = new Float32Array(count);
  const zeros = new Float32Array(count);
  const codes = new Uint8Array(values.length);
  if (solver.referenceCompat) referenceSolve(values, scales, zeros, codes, solver);
  else for (let g = 0; g < count; g++) solveGroup(values, g, scales, zeros, codes, solver);
  const weight: Affine = {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize: size,
    codes: packRows(codes, bits, rows, cols),
    scales: { block: [1, size], format: scaleFormat, data: encodeFloats(scaleFormat, scales) },
    zeroPoints: { format: scaleFormat, data: encodeFloats(scaleFormat, zeros) },
  };
  checkStored(scales, zeros, scaleFormat, cols / size);
  const groupSize = opts.groupSize ?? 64;
  return {
    weight,
    report: {
      method: 'hqq',
      bits,
      groupSize,
      symmetric: false,
      ...(trits && { trits: true as const }),
      ...costOf(w, weight, opts.hessian, start),
    },
  };
}

/** {@link hqq} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first. */
export function hqqLinear(linear: Linear, stats: LinearStats, opts: Omit<HqqOpts, 'hessian'> = {}): QuantizedLinear<HqqReport> {
  const { weight, report } = hqq(decode(linear.weight), stats.hessian ? { ...opts, hessian: stats.hessian } : opts);
  return { linear: { ...linear, weight }, report };
}

/**
 * Checks options against the width of a row; none: any.
 * @throws LmqError `argument/option`
 */
export function checkHqq(opts: HqqOpts, cols?: number): void {
  const op = 'hqq';
  const { groupSize = 64, lpNorm = 0.7, beta = 10, kappa = 1.01 } = opts;
  const bits = checkInteger(opts.bits ?? defaultBits(opts), 'bits', 1, 8, op);
  if (opts.trits && bits !== 2) throw new LmqError('argument/option', 'trits are stored in 2 bits', { op, expected: 2, found: bits });
  checkInteger(opts.iters ?? 20, 'iters', 0, 10_000, op);
  checkOneOf(opts.scaleFormat ?? 'fp16', 'scaleFormat', ['fp32', 'fp16', 'bf16'], op);
  if (groupSize !== -1) checkInteger(groupSize, 'groupSize', 1, Number.MAX_SAFE_INTEGER, op);
  if (cols !== undefined && groupSize !== -1 && cols % groupSize !== 0) {
    throw new LmqError('argument/option', 'groupSize does not divide the row', {
      op,
      expected: `a divisor of ${cols}, or -1`,
      found: groupSize,
    });
  }
  const within = (ok: boolean, name: string, expected: string, found: number) => {
    if (!ok) throw new LmqError('argument/option', `${name} is out of range`, { op, expected, found });
  };
  within(lpNorm > 0 && lpNorm <= 1, 'lpNorm', '0 < lpNorm <= 1', lpNorm);
  within(beta > 0 && beta < Number.POSITIVE_INFINITY, 'beta', 'beta > 0', beta);
  within(kappa >= 1 && kappa < Number.POSITIVE_INFINITY, 'kappa', 'kappa >= 1', kappa);
}

const defaultBits = ({ trits }: HqqOpts) => (trits ? 2 : 4);

function resolve(opts: HqqOpts, cols: number): Solver {
  checkHqq(opts, cols);
  const {
    bits = defaultBits(opts),
    trits = false,
    groupSize = 64,
    scaleFormat = 'fp16',
    lpNorm = 0.7,
    beta = 10,
    kappa = 1.01,
    iters = 20,
    referenceCompat = false,
  } = opts;
  const size = groupSize === -1 ? cols : groupSize;
  return { bits, trits, scaleFormat, lpNorm, beta, kappa, iters, referenceCompat, size, maxCode: trits ? 2 : 2 ** bits - 1 };
}

/** The part of an error that is an outlier's. Powers are slow, and errors below β^(-1 / (2 - p)) have none. */
function outlierPart(lpNorm: number, beta: number): (e: number) => number {
  const least = 0.999 * beta ** (-1 / (2 - lpNorm));
  const share = f(1 / beta);
  return (e) => {
    const a = Math.abs(e);
    if (a < least) return 0;
    const part = f(a - f(share * f(a ** f(lpNorm - 1))));
    return part > 0 ? (e < 0 ? -part : part) : 0;
  };
}

function solveGroup(values: Float32Array, g: number, scales: Float32Array, zeros: Float32Array, codes: Uint8Array, s: Solver): void {
  const { size, maxCode, scaleFormat, lpNorm, kappa, iters } = s;
  const [from, to] = [g * size, (g + 1) * size];
  const stored = (x: number) => roundToFormat(x, scaleFormat);
  let { min, max } = rangeOf(values, from, to);
  let scale = stored((max - min) / maxCode) || 1;
  let zero = stored(-min / scale);
  if (!(Math.abs(zero) <= WHOLE[scaleFormat])) {
    min = Math.min(min, 0);
    max = Math.max(max, 0);
    scale = stored((max - min) / maxCode) || 1;
    zero = stored(-min / scale);
  }
  if (s.bits === 4) zero = rint(zero);
  if (iters > 0) zero = bestStart(values, from, to, scale, zero, s);
  for (let i = 0, beta = s.beta; i < iters; i++, beta *= kappa) {
    const outlier = outlierPart(lpNorm, beta);
    let sum = 0;
    for (let k = from; k < to; k++) {
      const w = values[k]!;
      const q = codeOf(f(w / scale), zero, maxCode);
      const e = w - f(f(q - zero) * scale);
      sum += q - (w - outlier(e)) / scale;
    }
    const next = stored(sum / size);
    if (next === zero) break;
    zero = next;
  }
  scales[g] = scale;
  zeros[g] = zero;
  for (let k = from; k < to; k++) codes[k] = codeOf(f(values[k]! / scale), zero, maxCode);
}

/** Distances from the range's zero point at which the iteration may start, in steps of the grid. */
const STARTS = [0, -1, 1, -2, 2, -3, 3, -4, 4].map((eighths) => eighths / 8);

/** Of zero points around `zero`, the one with the least squared error: each iteration only moves to the nearest resting place. */
function bestStart(values: Float32Array, from: number, to: number, scale: number, zero: number, s: Solver): number {
  let best = zero;
  let least = Number.POSITIVE_INFINITY;
  for (const shift of STARTS) {
    const start = roundToFormat(zero + shift, s.scaleFormat);
    let error = 0;
    for (let k = from; k < to && error < least; k++) {
      const w = values[k]!;
      error += (w - (codeOf(f(w / scale), start, s.maxCode) - start) * scale) ** 2;
    }
    if (error < least) {
      least = error;
      best = start;
    }
  }
  return best;
}

/** Up to here a float holds every integer: beyond, zero points could not tell neighbouring codes apart. */
const WHOLE: Readonly<Record<FloatFormat, number>> = { fp32: 2 ** 24, fp16: 2 ** 11, bf16: 2 ** 8 };

function codeOf(scaled: number, zero: number, maxCode: number): number {
  return Math.min(Math.max(rint(f(scaled + zero)), 0), maxCode);
}

function rangeOf(values: Float32Array, from: number, to: number): { min: number; max: number } {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let k = from; k < to; k++) {
    const v = values[k]!;
    if (v < min) min = v;
    if (v > max) max = v;
  }
  return { min, max };
}

/** The published solver: inverse scales, and all groups in step. */
function referenceSolve(values: Float32Array, scales: Float32Array, zeros: Float32Array, codes: Uint8Array, s: Solver): void {
  const { size, maxCode, bits, iters, lpNorm, beta } = s;
  const outlier = outlierPart(lpNorm, beta);
  const inverse = scales;
  for (let g = 0; g < inverse.length; g++) {
    const { min, max } = rangeOf(values, g * size, (g + 1) * size);
    const range = f(max - min);
    inverse[g] = range <= f(1e-4) ? 1 : Math.min(f(maxCode * f(1 / range)), 2e4); // PyTorch divides a number by a tensor like this
    const zero = f(-min * inverse[g]!);
    zeros[g] = bits === 4 ? rint(zero) : zero;
  }
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < iters; i++) {
    let error = 0;
    for (let g = 0; g < inverse.length; g++) {
      const [by, zero] = [inverse[g]!, zeros[g]!];
      let sum = 0;
      for (let k = g * size; k < (g + 1) * size; k++) {
        const w = values[k]!;
        const q = codeOf(f(w * by), zero, maxCode);
        const e = f(w - f(f(q - zero) / by));
        error += Math.abs(e);
        sum += f(q - f(f(w - outlier(e)) * by));
      }
      zeros[g] = sum / size;
    }
    const mean = f(error / values.length);
    if (!(mean < best)) break;
    best = mean;
  }
  for (let k = 0; k < codes.length; k++) {
    const g = Math.floor(k / size);
    codes[k] = codeOf(f(values[k]! * inverse[g]!), zeros[g]!, maxCode);
  }
  for (let g = 0; g < scales.length; g++) scales[g] = 1 / inverse[g]!;
}

function checkStored(scales: Float32Array, zeros: Float32Array, format: FloatFormat, groups: number): void {
  for (let g = 0; g < scales.length; g++) {
    const [scale, zero] = [roundToFormat(scales[g]!, format), roundToFormat(zeros[g]!, format)];
    if (Number.isFinite(scale) && Number.isFinite(zero)) continue;
    throw new LmqError('argument/value', `row ${Math.floor(g / groups)}, group ${g % groups} needs numbers beyond ${format}`, {
      op: 'hqq',
      found: `scale ${scales[g]}, zero point ${zeros[g]}`,
      hint: "Set scaleFormat 'fp32' or 'bf16'.",
    });
  }
}
