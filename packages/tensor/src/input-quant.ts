/**
 * What a linear with a quantized input must be, the same for every backend.
 * @module
 */
import { LmqError } from './errors.js';
import type { InputQuant, Linear } from './layouts.js';
import { checkOneOf } from './options.js';

/** Longest row whose integer sums are exact in 32 bits: inputs within ±255, codes less their zero point too. */
const MAX_WIDTH = 32768;

/**
 * Checks the input quantization of a linear and that its weight has integers to multiply with.
 * @throws LmqError `argument/option`, or `backend/unsupported` for a weight that is not affine with whole zero points and groups in order
 */
export function checkInputQuant({ weight, input }: Linear, op: string): void {
  if (!input) return;
  checkInputOptions(input, op);
  const needs: (what: string, expected: string, found: string | number) => never = (what, expected, found) => {
    throw new LmqError('backend/unsupported', `${what} of a linear with a quantized input`, {
      op,
      expected,
      found,
      hint: 'Quantize the weight to integers in this way, or leave out input, which multiplies float32 inputs.',
    });
  };
  if (weight.kind !== 'affine') needs('the layout', 'affine', weight.kind);
  const { groupSize, groupIndex, zeroPoints, shape } = weight;
  if (zeroPoints && !ArrayBuffer.isView(zeroPoints)) needs('the zero points', 'integers', zeroPoints.format);
  if (groupIndex) needs('the groups', 'columns in order', 'a group index');
  if (groupSize < shape[1] && groupSize % 32 !== 0) needs('the group size', 'a multiple of 32, or a whole row', groupSize);
  if (shape[1] > MAX_WIDTH) needs('the width', `at most ${MAX_WIDTH} columns`, shape[1]);
}

/** @throws LmqError `argument/option` for what is no input quantization */
export function checkInputOptions(input: InputQuant, op: string): void {
  const fail = (what: string, expected: string, found: unknown): never => {
    throw new LmqError('argument/option', what, { op, expected, found: typeof found === 'number' ? found : String(found) });
  };
  checkOneOf(input.kind, 'input.kind', ['int8', 'llm-int8'], op);
  if (input.kind === 'llm-int8') {
    if (!(input.threshold >= 0)) fail('threshold is out of range', 'a number >= 0', input.threshold);
    return;
  }
  checkOneOf(input.per, 'input.per', ['tensor', 'token'], op);
  if (typeof input.symmetric !== 'boolean') fail('input.symmetric is neither true nor false', 'true or false', input.symmetric);
  if (!input.static) return;
  const { scale, zeroPoint } = input.static;
  if (input.per !== 'tensor') fail('a static scale serves the whole tensor', "per: 'tensor'", input.per);
  if (!(scale > 0 && scale < Number.POSITIVE_INFINITY && Math.fround(scale) === scale))
    fail('input.static.scale is out of range', 'a positive float32', scale);
  if (!(Number.isInteger(zeroPoint) && zeroPoint >= -128 && zeroPoint <= 127))
    fail('input.static.zeroPoint is out of range', 'an integer in -128 … 127', zeroPoint);
  if (input.symmetric && zeroPoint !== 0) fail('a symmetric input has its zero point at 0', '0', zeroPoint);
}
