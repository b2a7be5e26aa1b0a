/**
 * Reading compressed-tensors checkpoints, as llm-compressor writes them: `<module>.weight_scale` beside `<module>.weight` or
 * `<module>.weight_packed`, with `quantization_config` in config.json.
 *
 * Stored parts say which linears are quantized and how; the configuration must have a group that they fit. Its targets may be regular
 * expressions, which are never run, and are not needed: no two groups that fit the same parts mean different weights, or reading says so.
 * Source: compressed-tensors 0.20.1 and 0.9.4, compressors.
 * @module
 */
import { type CompressedTensorsPacking, decode } from '@lmq/formats';
import { checkOneOf } from '@lmq/tensor';
import { fail } from './_checks.js';
import { type CompressedTensorsConfig, readCompressedTensorsConfig } from './_compressed-tensors-config.js';
import { POWERS, planFloat } from './_compressed-tensors-float.js';
import { type Candidates, noGroup } from './_compressed-tensors-groups.js';
import { type IntPlan, planInt8, planPacked } from './_compressed-tensors-int.js';
import { DTYPES } from './_dtypes.js';
import { denseOf } from './_floats.js';
import { type LinearPlan, openPackedByData, type PackedLinear, SCALES } from './_packed-linears.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openCompressedTensors';

/** Parts that only quantized linears have; the one that all of them have first. */
const OWN = ['weight_scale', 'weight_packed', 'weight_shape', 'weight_zero_point', 'weight_g_idx', 'weight_global_scale'];
const FORMAT = { format: 'compressed-tensors', op: OP, parts: [...OWN, 'weight'], own: OWN } as const;

/** Of activations and key-value caches: they say nothing of weights. */
const RUNTIME = /\.(?:input|output|[qkv])_(?:scale|zero_point|global_scale)$/;

export interface OpenCompressedTensorsOpts {
  /** How codes of 3, 5, 6 and 7 bits are packed, for the rare tensors whose size does not tell. */
  packing?: CompressedTensorsPacking;
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens a compressed-tensors checkpoint. `<module>.weight` is `affine` for `pack-quantized`, `int-quantized` and `naive-quantized`,
 * `minifloat` for `float-quantized`, `nvfp4-pack-quantized`, `mxfp4-pack-quantized`, `mxfp6-pack-quantized` and `mxfp8-quantized`, and as
 * stored for `dense`; all others are as they are. Inputs in int8 per token or tensor of integer weights are in `inputs`, with their scales
 * where these are static; other scales of activations and caches are left out, and `warnings` says what they were for. Shapes of packed
 * weights and static scales are data, so they are read now.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config `quantization_config` of config.json
 * @throws LmqError `model/unsupported` for what is not read: sparse formats (marlin-24, sparse-24-bitmask, sparse-bitmask), transforms;
 * `model/config` for a configuration that contradicts itself or the file, `file/format` for parts that are missing, left over or do not
 * fit. `read` throws the last two as well, for what data shows
 */
export async function openCompressedTensors(
  physical: SafetensorsFile,
  config: unknown,
  { packing, file = 'config.json' }: OpenCompressedTensorsOpts = {},
): Promise<Checkpoint> {
  if (packing !== undefined) checkOneOf(packing, 'packing', ['stream', 'whole'], OP);
  const read = readCompressedTensorsConfig(config, OP, file);
  const weights = { ...physical, tensors: new Map([...physical.tensors].filter(([name]) => !RUNTIME.test(name))) };
  const names = [...weights.tensors.keys()];
  // only caches or activations are quantized, or weights are stored as they came: a checkpoint like any other
  const plain = read.groups.every((g) => g.format === 'dense') && !names.some((name) => name.endsWith(`.${OWN[0]}`));
  const opened: Checkpoint = plain
    ? weights
    : await openPackedByData(weights, FORMAT, (linear) => planLinear(linear, physical, read, packing));
  const ignored = [...read.ignore].filter((module) => physical.tensors.has(`${module}.weight_scale`));
  if (ignored.length)
    read.warnings.push(`${ignored.length} modules are stored quantized though ignore names them; some runtimes do not load them.`);
  return { ...opened, warnings: read.warnings };
}

/** How a linear is stored, by its parts and their dtypes. */
async function planLinear(
  linear: PackedLinear,
  physical: SafetensorsFile,
  config: CompressedTensorsConfig,
  packing?: CompressedTensorsPacking,
): Promise<LinearPlan> {
  const has = (part: string) => linear.parts.has(part);
  if (has('weight') === has('weight_packed'))
    fail('file/format', 'a quantized linear has either weight or weight_packed', {
      ...linear.where,
      found: has('weight') ? 'both' : 'neither',
      hint: 'The files come from different models, or one is missing.',
    });
  const scale = linear.dtype('weight_scale');
  const among = (...formats: string[]): Candidates => ({
    linear,
    groups: config.groups.filter((g) => g.format === undefined || formats.includes(g.format)),
    file: config.file,
  });
  if (has('weight_packed')) {
    if (linear.dtype('weight_packed') === 'I32')
      return withInput(await planPacked(among('pack-quantized'), packing), linear, physical, config);
    return planFloat(POWERS.includes(scale) ? among('mxfp4-pack-quantized', 'mxfp6-pack-quantized') : among('nvfp4-pack-quantized'));
  }
  const stored = linear.dtype('weight');
  if (stored === 'I8') return withInput(planInt8(among('int-quantized', 'naive-quantized')), linear, physical, config);
  if (stored === 'F8_E4M3')
    return planFloat(POWERS.includes(scale) ? among('mxfp8-quantized') : among('float-quantized', 'naive-quantized'));
  return planDense(among('dense'));
}

/** The plan with the input that the configuration declares; a fixed scale lies beside the weight. */
async function withInput(
  { declared, ...plan }: IntPlan,
  linear: PackedLinear,
  physical: SafetensorsFile,
  { warnings }: CompressedTensorsConfig,
): Promise<LinearPlan> {
  if (!declared) return plan;
  if (declared === 'several') {
    const warning = 'Several groups that fit the same weights differ in how inputs are rounded; lmq does not round those.';
    if (!warnings.includes(warning)) warnings.push(warning);
    return plan;
  }
  const { per, symmetric, fixed } = declared;
  const input = { kind: 'int8', per, symmetric } as const;
  return { ...plan, input: fixed ? { ...input, static: await fixedInput(linear, physical, symmetric) } : input };
}

async function fixedInput({ module, where }: PackedLinear, physical: SafetensorsFile, symmetric: boolean) {
  const part = async (name: string, dtypes: readonly string[]) => {
    const info = physical.tensors.get(`${module}.${name}`);
    if (!info) return undefined;
    const [dtype, count] = [physical.dtype(info.name), info.shape.reduce((a, b) => a * b, 1)];
    if (dtypes.includes(dtype) && count === 1) return { dtype, bytes: await physical.readBytes(info.name) };
    return fail('file/format', `${name} is not one number`, {
      ...where,
      expected: `${dtypes.join(' or ')} [1]`,
      found: `${dtype} [${info.shape.join(', ')}]`,
    });
  };
  const stored = await part('input_scale', SCALES);
  if (!stored) return fail('file/format', 'a part of a quantized linear is missing', { ...where, expected: `${module}.input_scale` });
  const scale = decode(denseOf(stored.bytes, DTYPES.get(stored.dtype)!.float!, [1, 1])).data[0]!;
  if (!(scale > 0 && scale < Number.POSITIVE_INFINITY))
    fail('file/format', 'input_scale is not positive', { ...where, expected: 'a positive number', found: scale });
  const zero = await part('input_zero_point', ['I8']);
  const zeroPoint = zero ? (zero.bytes[0]! << 24) >> 24 : 0;
  if (symmetric && zeroPoint !== 0)
    fail('model/config', 'the configuration says symmetric, the zero point of the input does not', {
      ...where,
      expected: 0,
      found: zeroPoint,
    });
  return { scale, zeroPoint };
}

/** Weights that stay floats: what is beside them is what they were rounded with, or will be. */
function planDense(of: Candidates): LinearPlan {
  const { linear } = of;
  const shape = linear.shape('weight', SCALES, 2) as [number, number];
  if (of.groups.length === 0) noGroup(of);
  const format = DTYPES.get(linear.dtype('weight'))!.float!;
  return { shape, format, read: async () => denseOf(await linear.bytes('weight'), format, shape) };
}
