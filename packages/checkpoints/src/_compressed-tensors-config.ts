/**
 * The configuration of a compressed-tensors checkpoint, as far as it says how to read one, and what it asks of a runtime besides weights.
 * Fields: compressed-tensors 0.20.1 quantization/quant_config.py, quant_scheme.py and quant_args.py; 0.9.4 where older files differ.
 * @module
 */
import { printable } from '@lmq/tensor';
import { fail } from './_checks.js';
import { presetScheme } from './_compressed-tensors-presets.js';
import { type Fields, field, fieldsOf } from './_object.js';
import { configFields, configFlag, configInteger, configText } from './_quant-config.js';

/** How weights of one group are quantized. */
export interface WeightArgs {
  bits: number;
  type: 'int' | 'float';
  symmetric: boolean;
  strategy: 'tensor' | 'channel' | 'group' | 'tensor_group' | 'block';
  /** Input columns that share a scale, for `group` and `tensor_group`. */
  groupSize?: number;
  /** Rows and columns that share a scale, for `block`. */
  block?: [rows: number, cols: number];
  /** Columns are grouped in the order of `weight_g_idx`. */
  actOrder: boolean;
}

/** How inputs are rounded to int8 at run time. */
export interface DeclaredInput {
  per: 'tensor' | 'token';
  symmetric: boolean;
  /** By a scale that is stored beside the weight. */
  fixed: boolean;
}

export interface WeightGroup {
  /** How its weights are stored; `undefined` when a file of mixed precision does not say. */
  format?: string;
  weights: WeightArgs;
  /** Of its linears, where they can be multiplied so. */
  input?: DeclaredInput;
}

export interface CompressedTensorsConfig {
  groups: WeightGroup[];
  /** Modules that are not quantized, by full name: patterns are not among them. */
  ignore: ReadonlySet<string>;
  /** What the model was made for and weights do not show. */
  warnings: string[];
  file: string;
}

interface Where {
  op: string;
  file: string;
}

const FORMATS = [
  ...['pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized', 'nvfp4-pack-quantized', 'mxfp4-pack-quantized'],
  ...['mxfp6-pack-quantized', 'mxfp8-quantized', 'dense'],
];
const STRATEGIES = ['tensor', 'channel', 'group', 'tensor_group', 'block'];
const OF_ACTIVATIONS = ['tensor', 'token', 'group', 'tensor_group', 'channel', 'attn_head'];
const AGAIN = 'Get the checkpoint in another format, or quantize the original weights.';

/** @throws LmqError `model/config`, `model/unsupported` */
export function readCompressedTensorsConfig(config: unknown, op: string, file: string): CompressedTensorsConfig {
  const where = { op, file };
  const fields = configFields(config, where);
  const method = configText(fields, ['quant_method'], where) ?? 'compressed-tensors';
  if (method !== 'compressed-tensors')
    fail('model/config', 'the configuration is not one of compressed-tensors', {
      ...where,
      expected: 'quant_method compressed-tensors',
      found: method,
    });
  refuseOthers(fields, where);
  const format = formatOf(fields, where) ?? 'dense';
  const read: CompressedTensorsConfig = { groups: [], ignore: new Set(listOf(fields, 'ignore', where)), warnings: [], file };
  const groups = field(fields, 'config_groups') ?? {};
  for (const [name, value] of Object.entries(fieldsOf(groups) ?? fail('model/config', 'config_groups is not an object', where)))
    addGroup(name, value, format, read, where);
  const cache = field(fields, 'kv_cache_scheme');
  if (cache !== undefined) {
    const rounded = activations(
      fieldsOf(cache) ?? fail('model/config', 'kv_cache_scheme is not an object', { ...where, found: cache }),
      where,
    );
    read.warnings.push(`The model was made for a key-value cache in ${rounded}; lmq does not round the cache so.`);
  }
  const status = configText(fields, ['quantization_status'], where) ?? 'compressed';
  if (read.groups.some((g) => g.format === 'dense') && status !== 'compressed' && status !== 'decompressed')
    read.warnings.push(`The weights are stored before they are quantized (${printable(status)}); lmq takes them as stored.`);
  return read;
}

/** What changes weights in ways that their group does not say. */
function refuseOthers(of: Fields, where: Where): void {
  const sparsity = fieldsOf(field(of, 'sparsity_config'));
  const sparse = sparsity && configText(sparsity, ['format'], where);
  if (sparse !== undefined && sparse !== 'dense')
    fail('model/unsupported', 'weights are stored sparse, which lmq does not read', {
      ...where,
      found: `sparsity_config ${sparse}`,
      hint: AGAIN,
    });
  for (const key of ['transform_config', 'moe_sparsity_config']) {
    const value = field(of, key);
    if (value === undefined || Object.keys(fieldsOf(value) ?? { value }).length === 0) continue;
    fail('model/unsupported', 'the model computes with more than its weights', { ...where, found: key, hint: AGAIN });
  }
}

/** A format that is read, or `undefined` where none is said. */
function formatOf(of: Fields, where: Where): string | undefined {
  const format = configText(of, ['format'], where);
  if (format === undefined || format === 'mixed-precision' || FORMATS.includes(format)) return format;
  if (format === 'fakequant') return 'dense'; // what a configuration says that names no format
  return fail('model/unsupported', 'a format of compressed-tensors that lmq does not read', {
    ...where,
    expected: [...FORMATS, 'mixed-precision'].join(', '),
    found: format,
    hint: AGAIN,
  });
}

function addGroup(name: string, value: unknown, format: string, into: CompressedTensorsConfig, where: Where): void {
  const bad = (what: string, found: unknown) => fail('model/config', what, { ...where, found });
  const named = // a list of targets under the name of a scheme, or a scheme
    (Array.isArray(value) ? presetScheme(name) : fieldsOf(value)) ??
    bad('a group of the configuration is none, and no scheme by its name', name);
  listOf(Array.isArray(value) ? { targets: value } : named, 'targets', where);
  const own = formatOf(named, where) ?? format;
  const ofWeights = field(named, 'weights');
  const weights =
    ofWeights === undefined ? undefined : weightArgs(fieldsOf(ofWeights) ?? bad('weights is not an object', ofWeights), where);
  let input: DeclaredInput | undefined;
  for (const [key, what] of [
    ['input_activations', 'inputs'],
    ['output_activations', 'outputs'],
  ] as const) {
    const args = field(named, key);
    if (args === undefined) continue;
    const of = fieldsOf(args) ?? bad(`${key} is not an object`, args);
    const rounded = activations(of, where);
    if (key === 'input_activations' && weights && own !== 'dense') input = int8Input(of, weights, where);
    if (key === 'input_activations' && input) continue;
    const warning = `The model was made for ${what} of its linears in ${rounded}; lmq does not round them so.`;
    if (!into.warnings.includes(warning)) into.warnings.push(warning);
  }
  if (weights) into.groups.push({ ...(own !== 'mixed-precision' && { format: own }), weights, ...(input && { input }) });
}

/** Inputs in int8 that these weights are multiplied with in integers, as `InputQuant` needs them; else `undefined`. */
function int8Input(of: Fields, weights: WeightArgs, where: Where): DeclaredInput | undefined {
  const { type, strategy, groupSize = 32, actOrder } = weights;
  const multiplied = type === 'int' && strategy !== 'block' && groupSize % 32 === 0 && !actOrder;
  if (!multiplied || (configText(of, ['type'], where) ?? 'int') !== 'int' || bitsOf(of, where) !== 8) return undefined;
  const per = configText(of, ['strategy'], where) ?? 'tensor';
  const dynamic = field(of, 'dynamic') ?? false;
  if (per !== 'tensor' && !(per === 'token' && dynamic === true)) return undefined;
  if (typeof dynamic !== 'boolean') return undefined;
  return { per, symmetric: configFlag(of, 'symmetric', where) ?? true, fixed: !dynamic };
}

function weightArgs(of: Fields, where: Where): WeightArgs {
  const bad = (what: string, expected: unknown, found: unknown) => fail('model/config', what, { ...where, expected, found });
  const bits = bitsOf(of, where);
  if (bits > 8) bad('num_bits out of range', '1 … 8', bits);
  const type = configText(of, ['type'], where) ?? 'int';
  if (type !== 'int' && type !== 'float') return bad('weights of an unknown type', 'int or float', type);
  const size = field(of, 'group_size') === undefined ? undefined : configInteger(of, ['group_size'], where);
  if (size !== undefined && size !== -1 && size < 1) bad('group_size out of range', '-1 for a whole row, or at least 1', size);
  const strategy = configText(of, ['strategy'], where) ?? (size === undefined ? 'tensor' : size === -1 ? 'channel' : 'group');
  if (!STRATEGIES.includes(strategy)) bad('weights of an unknown strategy', STRATEGIES.join(', '), strategy);
  const grouped = strategy === 'group' || strategy === 'tensor_group';
  if (grouped && (size === undefined || size === -1)) bad('groups have no size', 'group_size', size ?? 'nothing');
  const order = field(of, 'actorder');
  if (order !== undefined && order !== false && order !== true && !['group', 'dynamic', 'weight', 'static'].includes(order as string))
    bad('actorder is unknown', 'group, weight or null', order);
  return {
    bits,
    type,
    symmetric: configFlag(of, 'symmetric', where) ?? true,
    strategy: strategy as WeightArgs['strategy'],
    ...(grouped && { groupSize: size }),
    ...(strategy === 'block' && { block: blockOf(field(of, 'block_structure'), where) }),
    actOrder: order === true || order === 'group' || order === 'dynamic',
  };
}

function bitsOf(of: Fields, where: Where): number {
  const bits = field(of, 'num_bits') === undefined ? 8 : configInteger(of, ['num_bits'], where);
  if (bits >= 1 && bits <= 32) return bits;
  return fail('model/config', 'num_bits out of range', { ...where, expected: '1 … 32', found: bits });
}

/** `[128, 128]`, in older files `"128x128"`. */
function blockOf(value: unknown, where: Where): [rows: number, cols: number] {
  const sides = typeof value === 'string' ? value.split('x').map(Number) : value;
  const whole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 1;
  if (Array.isArray(sides) && sides.length === 2 && sides.every(whole)) return [sides[0], sides[1]];
  return fail('model/config', 'block_structure is not two sizes', { ...where, expected: '[rows, cols]', found: value ?? 'nothing' });
}

/** `int8 (per token, as it runs)`. All of it comes from lists, so that no foreign text gets into warnings. */
function activations(of: Fields, where: Where): string {
  const type = configText(of, ['type'], where) ?? 'int';
  if (type !== 'int' && type !== 'float')
    return fail('model/config', 'activations of an unknown type', { ...where, expected: 'int or float', found: type });
  const strategy = configText(of, ['strategy'], where) ?? 'tensor';
  if (!OF_ACTIVATIONS.includes(strategy))
    fail('model/config', 'activations of an unknown strategy', { ...where, expected: OF_ACTIVATIONS.join(', '), found: strategy });
  const dynamic = field(of, 'dynamic') ?? false;
  return `${type === 'int' ? 'int' : 'fp'}${bitsOf(of, where)} (per ${strategy.replace('_', ' ')}, ${dynamic === false ? 'static' : 'dynamic'} scales)`;
}

/** A list of strings; none when it is absent. Patterns of a foreign file (`re:…`) are never run: shapes say what a linear is. */
function listOf(of: Fields, key: string, where: Where): string[] {
  const value = field(of, key) ?? [];
  if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value.filter((v) => !v.startsWith('re:'));
  return fail('model/config', `${key} is not a list of names`, { ...where, found: value });
}
