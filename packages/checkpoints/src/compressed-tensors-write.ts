/**
 * Writing compressed-tensors checkpoints: an `affine` or `minifloat` tensor as the parts of a linear, the scheme that describes it, and the
 * configuration made of all schemes.
 * @module
 */
import { FLOAT_TRAITS, packCompressedTensors, rowBytes, scaleGrid, unpackRows, zeroPointValues } from '@lmq/formats';
import { type Affine, type CompressedTensor, checkOneOf, LmqError, type Minifloat, type Scales } from '@lmq/tensor';
import { moduleOf, refusal } from './_affine-export.js';
import { type CompressedTensorsOpts, type CompressedTensorsScheme, schemeOf } from './_compressed-tensors-schemes.js';
import { SCALE_DTYPES } from './_dtypes.js';
import { bytesOf } from './_floats.js';
import type { TensorToWrite } from './api.js';

export type { CompressedTensorsFormat, CompressedTensorsOpts, CompressedTensorsScheme } from './_compressed-tensors-schemes.js';

/**
 * How {@link toCompressedTensors} stores a tensor; linears with equal schemes make one group of the configuration.
 * @throws LmqError as it does
 */
export function compressedTensorsScheme(name: string, tensor: CompressedTensor, opts: CompressedTensorsOpts = {}): CompressedTensorsScheme {
  const op = 'compressedTensorsScheme';
  moduleOf(name, op);
  return schemeOf(tensor, opts, refusal(name, op), op);
}

/**
 * The parts of the weight `<module>.weight`, `<module>.weight_packed` or `.weight`, `.weight_scale` …, codes and scales as they are. A bias is
 * written beside them like any other tensor.
 * @throws LmqError `export/unsupported` for what the format cannot hold: other layouts; inputs that are not whole groups; packed integers
 * with scales in float32; zero points between codes; groups of uneven numbers of columns; MX and NVFP4 in other groups than 32 and 16, or with a global scale to
 * multiply with; E5M2 and E3M2; `argument/*`
 */
export function toCompressedTensors(name: string, tensor: CompressedTensor, opts: CompressedTensorsOpts = {}): TensorToWrite[] {
  const op = 'toCompressedTensors';
  const module = moduleOf(name, op);
  const scheme = schemeOf(tensor, opts, refusal(name, op), op);
  const t = tensor as Affine | Minifloat; // schemeOf refuses others
  const parts = t.kind === 'affine' ? [...intParts(t, scheme, opts), ...inputParts(opts)] : floatParts(t, scheme);
  return parts.map(([part, dtype, shape, bytes]) => ({ name: `${module}.${part}`, shape, dtype, bytes }));
}

type Part = [name: string, dtype: string, shape: number[], bytes: () => Uint8Array];

function floatParts(t: Minifloat, { format }: CompressedTensorsScheme): Part[] {
  const { codes, scales } = t;
  const [out, inputs] = t.shape;
  const { bits } = FLOAT_TRAITS[t.format];
  const weight: Part =
    bits === 8 ? ['weight', 'F8_E4M3', [out, inputs], () => codes] : ['weight_packed', 'U8', [out, rowBytes(inputs, bits)], () => codes];
  if (!scales) return [weight, ['weight_scale', 'F32', [1], () => bytesOf(Float32Array.of(1))]];
  const dtype = scales.format === 'e8m0' ? 'U8' : SCALE_DTYPES[scales.format];
  const parts: Part[] = [weight, ['weight_scale', dtype, gridOf(scales, t.shape), () => bytesOf(scales.data)]];
  if (format === 'nvfp4-pack-quantized')
    parts.push(['weight_global_scale', 'F32', [1], () => bytesOf(Float32Array.of(scales.global?.value ?? 1))]);
  return parts;
}

function intParts(t: Affine, { format, weights }: CompressedTensorsScheme, { packing = 'stream' }: CompressedTensorsOpts): Part[] {
  const { bits, scales, groupIndex } = t;
  const [out, inputs] = t.shape;
  const grid = gridOf(scales, t.shape);
  const pack = format === 'pack-quantized';
  const words = (n: number) => (packing === 'stream' ? Math.ceil((n * bits) / 32) : Math.ceil(n / Math.floor(32 / bits)));
  const full = (inputs * bits) % 32 === 0 && (packing === 'stream' || 32 % bits === 0); // words that are full are our rows
  const codes = () => unpackRows(t.codes, bits, out, inputs);
  const parts: Part[] = pack
    ? [
        [
          'weight_packed',
          'I32',
          [out, words(inputs)],
          () => (full ? t.codes : bytesOf(packCompressedTensors(codes(), bits, out, inputs, { packing }))),
        ],
        ['weight_shape', 'I64', [2], () => bytesOf(BigInt64Array.of(BigInt(out), BigInt(inputs)))],
      ]
    : [['weight', 'I8', [out, inputs], () => signed(codes(), bits)]];
  parts.push(['weight_scale', SCALE_DTYPES[scales.format], grid, () => bytesOf(scales.data)]);
  if (t.zeroPoints) {
    const zeros = zeroPointValues(t, 0, scales.data.length);
    const [, cols = 1] = grid;
    const packed = pack && (weights.strategy === 'group' || weights.strategy === 'channel');
    parts.push(
      packed
        ? [
            'weight_zero_point',
            'I32',
            [words(out), cols],
            () => bytesOf(packCompressedTensors(zeros, bits, out, cols, { packing, along: 'rows' })),
          ]
        : ['weight_zero_point', 'I8', grid, () => signed(zeros.slice(), bits)],
    );
  }
  if (weights.actorder && groupIndex) parts.push(['weight_g_idx', 'I32', [inputs], () => bytesOf(groupIndex)]);
  return parts;
}

/** The scale of inputs that calibration has found. */
function inputParts({ input }: CompressedTensorsOpts): Part[] {
  if (input?.kind !== 'int8' || !input.static) return [];
  const { scale, zeroPoint } = input.static;
  const parts: Part[] = [['input_scale', 'F32', [1], () => bytesOf(Float32Array.of(scale))]];
  if (!input.symmetric) parts.push(['input_zero_point', 'I8', [1], () => bytesOf(Int8Array.of(zeroPoint))]);
  return parts;
}

/** The shape of stored scales: one for the tensor is a vector. */
function gridOf(scales: Scales, shape: readonly [number, number]): number[] {
  const grid = scaleGrid(scales, shape);
  return grid[0] === 1 && grid[1] === 1 && shape[0] > 1 ? [1] : grid;
}

/** Codes as int8: stores wrap to two's complement. */
function signed(codes: Uint8Array, bits: number): Uint8Array {
  const middle = 2 ** (bits - 1);
  for (let i = 0; i < codes.length; i++) codes[i]! -= middle;
  return codes;
}

export interface CompressedTensorsConfigOpts {
  /** The linears that are stored quantized: names of their weights, and what `compressedTensorsScheme` says of each. */
  linears: Iterable<readonly [name: string, scheme: CompressedTensorsScheme]>;
  /** Modules of all other linears, such as `lm_head`: runtimes take them for quantized otherwise. Default none. */
  ignore?: readonly string[];
  /**
   * What runtimes do with inputs of linears whose scheme does not say: leave them (`none`, default), or round them as they run where the format has that (`dynamic`): to 8 bits per
   * token for `int-quantized`, which vLLM runs only so, and `float-quantized`, and to what weights are for MX. Inputs of `pack-quantized` and
   * `nvfp4-pack-quantized` are left; the latter would need a scale from calibration.
   */
  activations?: 'none' | 'dynamic';
}

/**
 * The configuration of a compressed-tensors checkpoint: `quantization_config` of config.json. Where all schemes are equal, the group is that of
 * all linears that are not ignored; else each group lists its own.
 * @throws LmqError `argument/option` for no linears, or `dynamic` activations that no format of theirs has; `argument/value` for a name that
 * is not `<module>.weight`
 */
export function compressedTensorsConfig({
  linears,
  ignore = [],
  activations = 'none',
}: CompressedTensorsConfigOpts): Record<string, unknown> {
  const op = 'compressedTensorsConfig';
  checkOneOf(activations, 'activations', ['none', 'dynamic'], op);
  const groups = new Map<string, { scheme: CompressedTensorsScheme; targets: string[] }>();
  for (const [name, scheme] of linears) {
    const key = JSON.stringify(scheme);
    const group = groups.get(key) ?? { scheme, targets: [] };
    group.targets.push(moduleOf(name, op));
    groups.set(key, group);
  }
  if (groups.size === 0) throw new LmqError('argument/option', 'no linear is quantized', { op, expected: 'at least one' });
  const formats = new Set([...groups.values()].map((g) => g.scheme.format));
  const config_groups = [...groups.values()].map(({ scheme, targets }) => ({
    targets: groups.size === 1 ? ['Linear'] : targets,
    weights: scheme.weights,
    input_activations: scheme.input_activations ?? (activations === 'none' ? null : dynamicInputs(scheme)),
    output_activations: null,
    format: scheme.format,
  }));
  if (activations === 'dynamic' && config_groups.every((g) => g.input_activations === null))
    throw new LmqError('argument/option', 'no format of the linears rounds inputs as it runs', { op, found: [...formats].join(', ') });
  return {
    quant_method: 'compressed-tensors',
    format: formats.size === 1 ? [...formats][0] : 'mixed-precision',
    quantization_status: 'compressed',
    config_groups: Object.fromEntries(config_groups.map((g, i) => [`group_${i}`, g])),
    ignore: [...ignore],
    kv_cache_scheme: null,
    global_compression_ratio: null,
  };
}

/** How inputs are rounded as the model runs, `null` when they are not. */
function dynamicInputs({ format, weights }: CompressedTensorsScheme): Record<string, unknown> | null {
  const { type, num_bits, strategy, group_size, block_structure, scale_dtype } = weights;
  const args = { num_bits: 8, type, symmetric: true, dynamic: true };
  if (format === 'pack-quantized' || format === 'nvfp4-pack-quantized') return null;
  if (format.startsWith('mx')) return { ...args, num_bits: num_bits === 6 ? 8 : num_bits, strategy: 'group', group_size, scale_dtype };
  return strategy === 'block' && type === 'float'
    ? { ...args, strategy: 'group', group_size: block_structure![1] }
    : { ...args, strategy: 'token' };
}
