/**
 * Reading compressed-tensors checkpoints, as llm-compressor writes them: `<module>.weight_scale` beside `<module>.weight` or
 * `<module>.weight_packed`, with `quantization_config` in config.json.
 *
 * Stored parts say which linears are quantized and how; the configuration must have a group that they fit. Its targets may be regular
 * expressions, which are never run, and are not needed: no two groups that fit the same parts mean different weights, or reading says so.
 * Source: compressed-tensors 0.20.1 and 0.9.4, compressors.
 * @module
 */
import type { CompressedTensorsPacking } from '@lmq/formats';
import { checkOneOf } from '@lmq/tensor';
import { fail } from './_checks.js';
import { type CompressedTensorsConfig, readCompressedTensorsConfig } from './_compressed-tensors-config.js';
import { POWERS, planFloat } from './_compressed-tensors-float.js';
import { type Candidates, noGroup } from './_compressed-tensors-groups.js';
import { planInt8, planPacked } from './_compressed-tensors-int.js';
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
 * stored for `dense`; all others are as they are. Scales of activations and caches are left out; `warnings` says what they were for. Shapes
 * of packed weights are data, so they are read now.
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
  const opened: Checkpoint = plain ? weights : await openPackedByData(weights, FORMAT, (linear) => planLinear(linear, read, packing));
  const ignored = [...read.ignore].filter((module) => physical.tensors.has(`${module}.weight_scale`));
  if (ignored.length)
    read.warnings.push(`${ignored.length} modules are stored quantized though ignore names them; some runtimes do not load them.`);
  return { ...opened, warnings: read.warnings };
}

/** How a linear is stored, by its parts and their dtypes. */
async function planLinear(linear: PackedLinear, config: CompressedTensorsConfig, packing?: CompressedTensorsPacking): Promise<LinearPlan> {
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
    if (linear.dtype('weight_packed') === 'I32') return planPacked(among('pack-quantized'), packing);
    return planFloat(POWERS.includes(scale) ? among('mxfp4-pack-quantized', 'mxfp6-pack-quantized') : among('nvfp4-pack-quantized'));
  }
  const stored = linear.dtype('weight');
  if (stored === 'I8') return planInt8(among('int-quantized', 'naive-quantized'));
  if (stored === 'F8_E4M3')
    return planFloat(POWERS.includes(scale) ? among('mxfp8-quantized') : among('float-quantized', 'naive-quantized'));
  return planDense(among('dense'));
}

/** Weights that stay floats: what is beside them is what they were rounded with, or will be. */
function planDense(of: Candidates): LinearPlan {
  const { linear } = of;
  const shape = linear.shape('weight', SCALES, 2) as [number, number];
  if (of.groups.length === 0) noGroup(of);
  const format = DTYPES.get(linear.dtype('weight'))!.float!;
  return { shape, format, read: async () => denseOf(await linear.bytes('weight'), format, shape) };
}
