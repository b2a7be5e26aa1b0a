/**
 * How HQQ stores the facts of a linear beside its weights: each as a tensor, numbers as scalars and text as its characters. Source: HQQ
 * core/utils.py, encode_safetensor_type.
 * @module
 */
import type { FloatFormat } from '@lmq/tensor';
import { fail } from './_checks.js';
import { typedView } from './_floats.js';
import type { PackedLinear } from './_packed-linears.js';

export const HQQ_PARTS = [
  ...['W_q', 'scale', 'zero', 'nbits', 'group_size', 'shape', 'axis', 'packing', 'unpack_view_dtype', 'view_as_float', 'quant_scale'],
  ...['quant_zero', 'compute_dtype', 'offload_meta', 'encoded_state_dict', 'stores_quant_config', 'channel_wise', 'optimize', 'round_zero'],
] as const;

export const TORCH_DTYPES: Readonly<Record<FloatFormat, string>> = { fp32: 'torch.float32', fp16: 'torch.float16', bf16: 'torch.bfloat16' };

/** Stored integers and floats. */
const NUMBERS: Readonly<Record<string, (bytes: Uint8Array) => number>> = {
  U8: ([byte]) => byte!,
  I32: (bytes) => typedView(bytes, Int32Array)[0]!,
  F32: (bytes) => typedView(bytes, Float32Array)[0]!,
};

/** A number of a linear. @throws LmqError `file/format` when it is absent or no scalar */
export async function scalarOf(linear: PackedLinear, part: string): Promise<number> {
  linear.shape(part, Object.keys(NUMBERS), 0);
  return NUMBERS[linear.dtype(part)]!(await linear.bytes(part));
}

/** A fact that is true or false; `absent` when it is not there. */
export async function flagOf(linear: PackedLinear, part: string, absent = false): Promise<boolean> {
  return linear.parts.has(part) ? (await scalarOf(linear, part)) !== 0 : absent;
}

/** The shape of a linear, [out, in]. */
export async function shapeOf(linear: PackedLinear): Promise<[out: number, inputs: number]> {
  const [n] = linear.shape('shape', ['I64'], 1);
  const found = n === 2 ? [...new BigInt64Array((await linear.bytes('shape')).slice().buffer)] : [];
  if (found.length !== 2 || found.some((d) => d < 1n || d >= 2n ** 32n))
    return fail('file/format', 'shape is not that of a matrix', {
      ...linear.where,
      expected: 'two numbers, 1 … 2^32 - 1',
      found: found.join(', ') || `${n} numbers`,
    });
  return [Number(found[0]), Number(found[1])];
}
