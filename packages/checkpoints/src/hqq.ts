/**
 * Reading HQQ checkpoints in safetensors: `<module>.W_q` holds codes, `.scale` and `.zero` a number per group, and `.shape`, `.nbits`,
 * `.group_size`, `.axis` … say what they are. Zero points are floats: `w = (code - zero) * scale`, here in float32. (HQQ itself computes in
 * `compute_dtype`, 16 bits as a rule.) Source: HQQ 0.2.8 core/quantize.py, core/bitpack.py.
 *
 * A group is a run of weights in row-major order with axis 1; with axis 0 it is every n-th weight. Runs that fill rows, or rows that fill
 * runs, are `affine`; the others are decoded when they are read.
 * @module
 */
import { decodeFloats, HQQ_BITS, type HqqPacking, hqqPacking, packRows, unpackHqq } from '@lmq/formats';
import { type Affine, type Dense, type FloatData, type FloatFormat, isLmqError } from '@lmq/tensor';
import { fail } from './_checks.js';
import { DTYPES } from './_dtypes.js';
import { floatData } from './_floats.js';
import { flagOf, HQQ_PARTS, scalarOf, shapeOf } from './_hqq.js';
import { type LinearPlan, openPackedByData, type PackedLinear, SCALES, wrongShape } from './_packed-linears.js';
import { configFields, configText } from './_quant-config.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openHqq';

/** Scales that are quantized themselves, in a way that cannot be stored whole; HQQ has given it up. */
const OLD_PARTS = ['zero_scale', 'scale_q', 'zero_q', 'meta_scale', 'meta_zero'];
const OWN = ['unpack_view_dtype', 'view_as_float', 'quant_scale', 'quant_zero', 'encoded_state_dict', 'stores_quant_config'];

export interface OpenHqqOpts {
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens an HQQ checkpoint of 1, 2, 3, 4, 5, 6 or 8 bits: `<module>.weight` is `affine` [out, in] with zero points in floating point, or
 * `dense` in float32 where `TensorInfo.format` says that it is decoded; everything else as it is. What a linear is, its own tensors say.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config `quantization_config` of config.json
 * @throws LmqError `model/unsupported` for quantized scales, `model/config` for a configuration of another method, `file/format` for parts
 * that are missing, left over or do not fit. `read` throws the last one as well, for codes and scales that are damaged
 */
export async function openHqq(physical: SafetensorsFile, config: unknown, { file = 'config.json' }: OpenHqqOpts = {}): Promise<Checkpoint> {
  const where = { op: OP, file };
  const method = configText(configFields(config, where), ['quant_method'], where) ?? 'hqq';
  if (method !== 'hqq')
    fail('model/config', 'the configuration is not one of HQQ', { ...where, expected: 'quant_method hqq', found: method });
  return openPackedByData(physical, { format: 'hqq', op: OP, parts: [...HQQ_PARTS, ...OLD_PARTS], own: OWN }, planHqq);
}

/** What a linear's own tensors say of it. */
interface Geometry {
  out: number;
  inputs: number;
  /** Of a code as it is used; 2 for the three values of "1.58 bits". */
  bits: number;
  axis: 0 | 1;
  /** Weights per group. */
  group: number;
  groups: number;
  /** The matrix that was packed. */
  rows: number;
  cols: number;
}

async function planHqq(linear: PackedLinear): Promise<LinearPlan> {
  const { parts } = linear;
  const old = OLD_PARTS.find((part) => parts.has(part));
  if (old !== undefined) oldScales(linear, old);
  const is = await geometryOf(linear);
  const packing = hqqPacking(is.bits);
  checkCodes(linear, is, packing);
  const [scale, zero] = [vectorOf(linear, 'scale', is.groups), vectorOf(linear, 'zero', is.groups)];
  const { out, inputs, bits, group } = is;
  const held = is.axis === 1 && (inputs % group === 0 || (group % inputs === 0 && out % (group / inputs) === 0));
  return {
    shape: [out, inputs],
    format: held
      ? `affine ${bits}-bit ${group === inputs ? 'per row' : `g${group}`}`
      : `hqq ${bits}-bit g${group} axis ${is.axis}, decoded to fp32`,
    async read() {
      for (const flag of ['quant_scale', 'quant_zero']) if (await flagOf(linear, flag)) oldScales(linear, flag);
      const codes = await readCodes(linear, is);
      const [scales, zeros] = [await scale.read(), await zero.read()];
      if (!held) return decodeGroups(is, codes, decodeFloats(scale.format, scales), decodeFloats(zero.format, zeros));
      const block: [number, number] = [Math.max(1, group / inputs), Math.min(group, inputs)];
      return {
        kind: 'affine',
        shape: [out, inputs],
        bits,
        groupSize: block[1],
        codes: packRows(codes, bits, out, inputs),
        scales: { block, format: scale.format, data: scales },
        zeroPoints: { format: zero.format, data: zeros },
      } satisfies Affine;
    },
  };
}

/** Throws. */
function oldScales(linear: PackedLinear, found: string): never {
  return fail('model/unsupported', 'the scales are quantized, which HQQ has given up', {
    ...linear.where,
    expected: 'scale and zero',
    found,
    hint: 'Quantize the original weights without quant_scale, quant_zero and offload_meta.',
  });
}

async function geometryOf(linear: PackedLinear): Promise<Geometry> {
  const { where } = linear;
  const [out, inputs] = await shapeOf(linear);
  const count = out * inputs;
  const stored = await scalarOf(linear, 'nbits');
  const bits = Math.abs(stored - 1.58) < 1e-6 ? 2 : stored;
  if (!HQQ_BITS.includes(bits))
    fail('file/format', 'nbits is not one that HQQ has', { ...where, expected: '1, 1.58, 2, 3, 4, 5, 6 or 8', found: stored });
  const axis = await scalarOf(linear, 'axis');
  if (axis !== 0 && axis !== 1) return fail('file/format', 'axis is out of range', { ...where, expected: '0 or 1', found: axis });
  // one group, not even reshaped
  if (!(await flagOf(linear, 'channel_wise', true)))
    return { out, inputs, bits, axis: 1, group: count, groups: 1, rows: out, cols: inputs };
  const group = linear.parts.has('group_size') ? await scalarOf(linear, 'group_size') : axis === 1 ? inputs : out;
  if (!(Number.isInteger(group) && group >= 1 && count % group === 0))
    fail('file/format', 'the weights are not whole groups', { ...where, expected: `a divisor of ${out} * ${inputs}`, found: group });
  const groups = count / group;
  return { out, inputs, bits, axis, group, groups, rows: axis === 1 ? groups : group, cols: axis === 1 ? group : groups };
}

/** Codes may be stored as floats of the same bits (`view_as_float`). */
function checkCodes(linear: PackedLinear, { rows, cols }: Geometry, { bytes, codes }: HqqPacking): void {
  linear.shape('W_q', [bytes === 1 ? 'U8' : 'I32', ...SCALES], 2);
  const { bytes: found } = linear.parts.get('W_q')!;
  const words = bytes === 1 ? rows / codes : Math.ceil(rows / codes);
  if (found !== words * cols * bytes)
    fail('file/format', 'W_q does not fit the other parts', {
      ...linear.where,
      expected: `${words * cols * bytes} bytes`,
      found: `${found} bytes`,
    });
}

/** A number per group, of any shape. */
function vectorOf(linear: PackedLinear, part: string, groups: number): { format: FloatFormat; read(): Promise<FloatData> } {
  const shape = linear.parts.get(part)?.shape ?? [];
  linear.shape(part, SCALES, shape.length);
  if (shape.reduce((n, d) => n * d, 1) !== groups) wrongShape(linear, part, [groups]);
  const format = DTYPES.get(linear.dtype(part))!.float!;
  return { format, read: async () => floatData(await linear.bytes(part), format) };
}

/** Codes in the order of what was packed, one per byte. */
async function readCodes(linear: PackedLinear, { bits, rows, cols }: Geometry): Promise<Uint8Array> {
  try {
    return unpackHqq(await linear.bytes('W_q'), bits, rows, cols);
  } catch (cause) {
    if (!isLmqError(cause) || cause.code !== 'argument/value') throw cause;
    return fail('file/format', 'W_q holds codes that are none', { ...linear.where, op: 'read', expected: `0 … ${2 ** bits - 1}`, cause });
  }
}

/** Weights of groups that no layout holds: element i belongs to group i / group with axis 1, to group i % groups with axis 0. */
function decodeGroups({ out, inputs, axis, group, groups }: Geometry, codes: Uint8Array, scales: Float32Array, zeros: Float32Array): Dense {
  const data = new Float32Array(codes.length);
  for (let i = 0; i < data.length; i++) {
    const g = axis === 1 ? Math.floor(i / group) : i % groups;
    data[i] = Math.fround(codes[i]! - zeros[g]!) * scales[g]!;
  }
  return { kind: 'dense', shape: [out, inputs], format: 'fp32', data };
}
