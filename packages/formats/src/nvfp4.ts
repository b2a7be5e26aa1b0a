/**
 * NVFP4: E2M1 elements, an E4M3 scale per 16 input columns, and a float32 for the whole tensor that brings those scales into their range.
 *
 * The scale of a group is absmax / 6 times 6 · 448 / absmax of the tensor, rounded to E4M3. Rules:
 * - `compressed-tensors`: stores the float32 to divide by; a scale that rounds to 0 becomes 0.125; weights are divided by the scale.
 * - `torchao`: stores its inverse to multiply with, as ModelOpt does; scales are at least 2^-6; weights are multiplied by the inverse.
 *
 * Arithmetic is float32 step by step, as in the sources: compressed-tensors helpers.py and forward.py; torchao nvfp4_tensor.py.
 * @module
 */
import { checkOneOf, contiguous, type Minifloat, matrixShape, type Tensor } from '@lmq/tensor';
import { expectFiniteWeights } from './_finite.js';
import { FLOAT_TRAITS } from './formats.js';
import { floatToFp8e4m3, fp8e4m3ToFloat } from './fp8e4m3.js';
import { encodeMinifloats } from './minifloats.js';
import { packRows } from './packing.js';

const f = Math.fround;
const GROUP = 16;
const LARGEST = FLOAT_TRAITS.fp4e2m1.max;
/** What one scale and one element reach together. */
const REACH = LARGEST * FLOAT_TRAITS.fp8e4m3.max;
/** Smallest normal float32. */
const TINY = 2 ** -126;
/** Below it, the inverse of a scale times this is not a float32: weights so small become zeros. */
const SMALLEST_GLOBAL = 2 ** -121;

export type Nvfp4ScaleRule = 'compressed-tensors' | 'torchao';

export interface EncodeNvfp4Opts {
  /** Default `compressed-tensors`. */
  scaleRule?: Nvfp4ScaleRule;
}

/** How a rule makes and uses scales, `global` being the number that it stores. */
interface Rule {
  op: 'divide' | 'multiply';
  global(absmax: number): number;
  /** The scale of a group, before and after it is stored in E4M3. */
  local(absmax: number, global: number): number;
  floor(scale: number): number;
  /** A weight in units of its elements. */
  element(w: number, scale: number, global: number): number;
}

const RULES: Readonly<Record<Nvfp4ScaleRule, Rule>> = {
  'compressed-tensors': {
    op: 'divide',
    global: (absmax) => {
      const global = f(REACH / Math.max(absmax, TINY));
      return Number.isFinite(global) ? global : 1;
    },
    local: (absmax, global) => f(global * f(absmax / LARGEST)),
    floor: (scale) => (scale === 0 ? 0.125 : scale),
    element: (w, scale, global) => f(w / f(scale / global)),
  },
  torchao: {
    op: 'multiply',
    global: (absmax) => {
      const global = f(absmax / REACH);
      return global > SMALLEST_GLOBAL ? global : 1;
    },
    local: (absmax, global) => Math.max(f(f(absmax / LARGEST) / global), FLOAT_TRAITS.fp8e4m3.minNormal),
    floor: (scale) => scale,
    element: (w, scale, global) => f(w * f(f(1 / global) / scale)),
  },
};

/**
 * Quantizes `w` [out, in]. The last group of a row may be shorter.
 * @throws LmqError `argument/option` for an unknown rule, `argument/value` for NaN and infinity
 */
export function encodeNvfp4(w: Tensor, { scaleRule = 'compressed-tensors' }: EncodeNvfp4Opts = {}): Minifloat {
  const op = 'encodeNvfp4';
  const rule = RULES[checkOneOf(scaleRule, 'scaleRule', Object.keys(RULES) as Nvfp4ScaleRule[], op)];
  const [rows, cols] = matrixShape(w, op);
  const values = Float32Array.from(contiguous(w));
  expectFiniteWeights(values, cols, op);
  const global = rule.global(absmax(values, 0, values.length));
  const perRow = Math.ceil(cols / GROUP);
  const scales = new Uint8Array(rows * perRow);
  for (let g = 0; g < scales.length; g++) {
    const row = Math.floor(g / perRow);
    const from = row * cols + (g % perRow) * GROUP;
    const to = Math.min(from + GROUP, (row + 1) * cols);
    const rounded = fp8e4m3ToFloat(floatToFp8e4m3(rule.local(absmax(values, from, to), global)));
    const scale = rule.floor(rounded);
    scales[g] = floatToFp8e4m3(scale);
    for (let i = from; i < to; i++) values[i] = rule.element(values[i]!, scale, global);
  }
  return {
    kind: 'minifloat',
    shape: [rows, cols],
    format: 'fp4e2m1',
    codes: packRows(encodeMinifloats('fp4e2m1', values), 4, rows, cols),
    scales: { block: [1, Math.min(GROUP, cols)], format: 'fp8e4m3', data: scales, global: { op: rule.op, value: global } },
  };
}

/** Largest magnitude of values[from … to). */
function absmax(values: Float32Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}
