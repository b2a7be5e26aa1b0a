/**
 * What files of integers can hold of an `affine` tensor.
 * @module
 */
import { validate, zeroBetweenCodes } from '@lmq/formats';
import type { Affine, CompressedTensor, FloatFormat } from '@lmq/tensor';
import { fail } from './_checks.js';
import { FLOAT_DTYPES } from './_dtypes.js';
import { bytesOf } from './_floats.js';
import { isTensorName } from './_safetensors-header.js';
import { transpose } from './_transpose.js';
import type { TensorToWrite } from './api.js';

/** An affine tensor whose scales are of rows and groups of columns, in 16 bits. */
export interface Exportable {
  /** The tensor's name without `.weight`. */
  module: string;
  t: Affine;
  out: number;
  inputs: number;
  groups: number;
  scales: TensorToWrite;
  refuse: Refuse;
}

/** The module of a weight. @throws LmqError `argument/value` for a name that is not `<module>.weight` */
export function moduleOf(name: string, op: string): string {
  if (!isTensorName(name) || !/.\.weight$/s.test(name))
    fail('argument/value', 'not the name of a weight', { op, tensor: name, expected: '<module>.weight' });
  return name.slice(0, -'.weight'.length);
}

/** Throws `export/unsupported`: the format cannot hold the tensor. */
export type Refuse = (what: string, expected: unknown, found: unknown, hint?: string) => never;

export function refusal(tensor: string, op: string): Refuse {
  return (what, expected, found, hint) =>
    fail('export/unsupported', what, { op, tensor, expected, found, ...(hint !== undefined && { hint }) });
}

/** Refuses zero points that are no integers, those of HQQ. */
export function checkZeroPoints(t: Affine, refuse: Refuse): void {
  const between = zeroBetweenCodes(t);
  if (between !== undefined)
    refuse('a zero point between codes cannot be stored', `integers 0 … ${2 ** t.bits - 1}`, between, 'Write HQQ.');
}

/** @throws LmqError `argument/value` for a name that is not `<module>.weight`, `argument/*` for a tensor that is not valid, `export/unsupported` */
export function exportable(name: string, t: CompressedTensor, op: string): Exportable {
  const module = moduleOf(name, op);
  const refuse = refusal(name, op);
  if (t.kind !== 'affine') return refuse('the layout cannot be stored', 'affine', t.kind, 'Quantize with uniform integers, e.g. GPTQ.');
  validate(t);
  const { block, format, data } = t.scales;
  if (block[0] !== 1) refuse('a scale for several rows cannot be stored', 'scales.block [1, group]', `[${block.join(', ')}]`);
  if (format !== 'fp16' && format !== 'bf16')
    refuse('scales of this format cannot be stored', 'fp16 or bf16', format, 'Runtimes would round them; quantize with fp16 scales.');
  const [out, inputs] = t.shape;
  const groups = Math.ceil(inputs / t.groupSize);
  checkZeroPoints(t, refuse);
  return {
    module,
    t,
    out,
    inputs,
    groups,
    scales: {
      name: `${module}.scales`,
      shape: [groups, out],
      dtype: FLOAT_DTYPES[format as FloatFormat],
      bytes: () => bytesOf(transpose(data as Uint16Array, out, groups)),
    },
    refuse,
  };
}
