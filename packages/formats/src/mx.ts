/**
 * The microscaling (MX) formats: groups of 32 input columns that share a power of two, elements of 8, 6 or 4 bits. MXFP4 is `fp4e2m1`, MXFP6
 * `fp6e2m3` or `fp6e3m2`, MXFP8 `fp8e4m3` or `fp8e5m2`.
 *
 * The shared exponent is that of the largest magnitude less that of the largest element, so that the largest element may saturate. Rules
 * differ in whether a magnitude that would is rounded up to the next power of two first:
 * - `floor`: never. OCP MX v1.0 §6.3; torchao's default; the exponent of GGUF's MXFP4.
 * - `even`: from where it would round to that power with the fraction bits of the element. torchao's EVEN, Quark.
 * - `compressed-tensors`: as `even`, but E4M3 elements as if they had one fraction bit: from 1.75 times a power of two.
 *
 * Elements are rounded to nearest, ties to even, and saturate.
 * Source: OCP Microscaling Formats (MX) Specification v1.0; torchao mx_tensor.py; compressed-tensors mxfp_utils.py.
 * @module
 */
import { checkOneOf, contiguous, type Minifloat, type MinifloatFormat, matrixShape, type Tensor } from '@lmq/tensor';
import { expectFiniteWeights } from './_finite.js';
import { FLOAT_TRAITS } from './formats.js';
import { encodeMinifloats, MINIFLOAT_FORMATS } from './minifloats.js';
import { packRows } from './packing.js';

const GROUP = 32;

export type MxScaleRule = 'floor' | 'even' | 'compressed-tensors';

export interface EncodeMxOpts {
  /** Default `floor`. */
  scaleRule?: MxScaleRule;
}

/**
 * Quantizes `w` [out, in]. The last group of a row may be shorter.
 * @throws LmqError `argument/option` for an unknown format or rule, or for E5M2 and E3M2 with `compressed-tensors`, which has neither;
 * `argument/value` for NaN and infinity
 */
export function encodeMx(format: MinifloatFormat, w: Tensor, { scaleRule = 'floor' }: EncodeMxOpts = {}): Minifloat {
  const op = 'encodeMx';
  checkOneOf(format, 'element format', MINIFLOAT_FORMATS, op);
  const round = roundingBit(format, scaleRule, op);
  const [rows, cols] = matrixShape(w, op);
  const values = Float32Array.from(contiguous(w));
  expectFiniteWeights(values, cols, op);
  const top = Math.floor(Math.log2(FLOAT_TRAITS[format].max));
  const perRow = Math.ceil(cols / GROUP);
  const scales = new Uint8Array(rows * perRow);
  const bits = new Int32Array(values.buffer);
  for (let g = 0; g < scales.length; g++) {
    const row = Math.floor(g / perRow);
    const from = row * cols + (g % perRow) * GROUP;
    const to = Math.min(from + GROUP, (row + 1) * cols);
    let largest = 0; // as float32 bits, which order magnitudes
    for (let i = from; i < to; i++) largest = Math.max(largest, bits[i]! & 0x7fffffff);
    scales[g] = Math.max(0, ((largest + round) >>> 23) - top);
    const factor = 2 ** (127 - scales[g]!);
    for (let i = from; i < to; i++) values[i]! *= factor;
  }
  return {
    kind: 'minifloat',
    shape: [rows, cols],
    format,
    codes: packRows(encodeMinifloats(format, values), FLOAT_TRAITS[format].bits, rows, cols),
    scales: { block: [1, Math.min(GROUP, cols)], format: 'e8m0', data: scales },
  };
}

/** What to add to the bits of the largest magnitude before its exponent is taken. */
function roundingBit(format: MinifloatFormat, rule: MxScaleRule, op: string): number {
  checkOneOf(rule, 'scaleRule', ['floor', 'even', 'compressed-tensors'], op);
  if (rule === 'floor') return 0;
  if (rule === 'compressed-tensors') {
    checkOneOf(format, 'element format of compressed-tensors', ['fp4e2m1', 'fp6e2m3', 'fp8e4m3'], op);
    if (format === 'fp8e4m3') return 2 ** 21;
  }
  return 2 ** (22 - FLOAT_TRAITS[format].fractionBits);
}
