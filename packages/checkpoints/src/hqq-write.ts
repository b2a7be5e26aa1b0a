/**
 * Writing HQQ checkpoints: an `affine` tensor as the tensors of a linear, and the configuration that goes beside them.
 * @module
 */
import { encodeFloats, HQQ_BITS, hqqPacking, isFloatZeros, packHqq, unpackRows, validate, zeroValues } from '@lmq/formats';
import { type Affine, type CompressedTensor, checkInteger, checkOneOf, type FloatData, type FloatFormat } from '@lmq/tensor';
import { moduleOf, type Refuse, refusal } from './_affine-export.js';
import { FLOAT_DTYPES } from './_dtypes.js';
import { bytesOf } from './_floats.js';
import { TORCH_DTYPES } from './_hqq.js';
import type { TensorToWrite } from './api.js';

/**
 * `<module>.W_q`, `.scale`, `.zero` and what says how to read them, of the weight `<module>.weight`: codes, scales and zero points as they
 * are, grouped along rows (axis 1). Runtimes compute in the format of the scales. A bias is written beside them like any other tensor.
 * @throws LmqError `export/unsupported` for what the format cannot hold: other layouts, 7 bits, act-order, groups that rows do not consist of,
 * a number of groups that does not fill words, scales that are not plain floats, zero points in another format than the scales; `argument/*`
 */
export function toHqqTensors(name: string, tensor: CompressedTensor): TensorToWrite[] {
  const op = 'toHqqTensors';
  const module = moduleOf(name, op);
  const refuse = refusal(name, op);
  if (tensor.kind !== 'affine') return refuse('the layout cannot be stored', 'affine', tensor.kind, 'Quantize with uniform integers.');
  validate(tensor);
  const [out, inputs] = tensor.shape;
  const { bits, scales } = tensor;
  if (!HQQ_BITS.includes(bits)) refuse('codes of this width cannot be stored', `${HQQ_BITS.join(', ')} bits`, bits);
  if (tensor.groupIndex)
    refuse('act-order cannot be stored', 'columns grouped in order', 'a groupIndex', 'Quantize without act-order, or write GPTQ.');
  const { format } = scales;
  if (format !== 'fp32' && format !== 'fp16' && format !== 'bf16')
    return refuse('scales of this format cannot be stored', 'fp32, fp16 or bf16', format);
  const group = groupOf(tensor, refuse);
  const groups = (out * inputs) / group;
  const packing = hqqPacking(bits);
  if (packing.bytes === 1 && groups % packing.codes !== 0)
    refuse(
      'the groups do not fill words',
      `a multiple of ${packing.codes} groups`,
      groups,
      'Take another group size, or leave this weight unquantized.',
    );
  const zeros = zerosOf(tensor, format, groups, refuse);
  const part = (name: string, shape: number[], dtype: string, bytes: () => Uint8Array): TensorToWrite => {
    return { name: `${module}.${name}`, shape, dtype, bytes };
  };
  const integer = (name: string, value: number) => part(name, [], 'I32', () => bytesOf(Int32Array.of(value)));
  const flag = (name: string, value: boolean) => part(name, [], 'U8', () => Uint8Array.of(value ? 1 : 0));
  const text = (name: string, value: string) => part(name, [value.length], 'U8', () => new TextEncoder().encode(value));
  const floats = (name: string, data: FloatData) => part(name, [groups, 1], FLOAT_DTYPES[format], () => bytesOf(data));
  return [
    part('W_q', [Math.ceil(groups / packing.codes), group], packing.bytes === 1 ? 'U8' : 'I32', () =>
      packHqq(unpackRows(tensor.codes, bits, out, inputs), bits, groups, group),
    ),
    integer('nbits', bits),
    integer('group_size', group),
    part('shape', [2], 'I64', () => bytesOf(BigInt64Array.of(BigInt(out), BigInt(inputs)))),
    floats('scale', scales.data as FloatData),
    floats('zero', zeros),
    integer('axis', 1),
    text('packing', packing.name),
    text('unpack_view_dtype', packing.bytes === 1 ? 'torch.uint8' : 'torch.int32'),
    flag('view_as_float', false),
    flag('quant_scale', false),
    flag('quant_zero', false),
    text('compute_dtype', TORCH_DTYPES[format]),
    flag('offload_meta', false),
    flag('encoded_state_dict', true),
    flag('stores_quant_config', true),
    flag('channel_wise', true),
    flag('optimize', true),
    flag('round_zero', false),
  ];
}

/** Weights per group: a part of a row, or several rows. */
function groupOf({ shape: [out, inputs], scales: { block } }: Affine, refuse: Refuse): number {
  const [rows, cols] = block;
  if (rows === 1 ? inputs % cols === 0 : cols === inputs && out % rows === 0) return rows * cols;
  return refuse('blocks of scales that are not runs of weights', 'groups that rows consist of, or whole rows', `[${block.join(', ')}]`);
}

/** Zero points in the format of the scales: runtimes convert them to it. */
function zerosOf(t: Affine, format: FloatFormat, groups: number, refuse: Refuse): FloatData {
  if (!isFloatZeros(t.zeroPoints)) return encodeFloats(format, Float32Array.from(zeroValues(t, 0, groups))); // integers up to 255 are exact
  if (t.zeroPoints.format !== format) refuse('zero points in another format than the scales cannot be stored', format, t.zeroPoints.format);
  return t.zeroPoints.data;
}

export interface HqqConfigOpts {
  bits: number;
  /** Input columns that share a scale; -1 for a whole row. */
  groupSize: number;
  /** Modules whose weights are not quantized, as the ends of their names (`lm_head`, `self_attn.q_proj`). Default lm_head. */
  skipModules?: readonly string[];
}

/**
 * The configuration of an HQQ checkpoint: `quantization_config` of config.json.
 * @throws LmqError `argument/option`
 */
export function hqqConfig({ bits, groupSize, skipModules = ['lm_head'] }: HqqConfigOpts): Record<string, unknown> {
  const op = 'hqqConfig';
  checkOneOf(String(bits), 'bits', HQQ_BITS.map(String), op);
  if (groupSize !== -1) checkInteger(groupSize, 'groupSize', 1, 2 ** 31 - 1, op);
  const weights = {
    nbits: bits,
    channel_wise: true,
    group_size: groupSize,
    optimize: true,
    round_zero: false,
    axis: 1,
    view_as_float: false,
  };
  return {
    quant_method: 'hqq',
    quant_config: { weight_quant_params: weights, scale_quant_params: null, zero_quant_params: null, offload_meta: false },
    skip_modules: [...skipModules],
  };
}
