import { readFileSync } from 'node:fs';
import { decode, encodeFloats, encodeMx, encodeNvfp4, packRows, packStream } from '@lmq/formats';
import { type Affine, type CompressedTensor, createRng, type FloatFormat, type InputQuant, type Minifloat, matrix } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { presetScheme } from '../src/_compressed-tensors-presets.js';
import { openCompressedTensors } from '../src/compressed-tensors.js';
import {
  type CompressedTensorsFormat,
  compressedTensorsConfig,
  compressedTensorsScheme,
  toCompressedTensors,
} from '../src/compressed-tensors-write.js';
import { guardNonFinite } from '../src/non-finite.js';
import { openQuantized } from '../src/open-quantized.js';
import { expectFailure } from './_files.js';
import { fnv, goldenLinears } from './_golden-linears.js';
import { type Stored, safetensorsOf, storedOf, under } from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;

interface Case {
  format: string;
  /** Written by 0.9.4, which packs 3, 5, 6 and 7 bits in another way. */
  old: boolean;
  out: number;
  in: number;
  config: Record<string, unknown> & { config_groups: { group_0: { weights: Record<string, unknown> } } };
  /** dtype of the decompressed weights, and the FNV-1a of their bits. */
  dtype: string;
  weight: string;
}

const cases = goldenLinears<Case>('compressed-tensors');
const FLOATS: Record<string, FloatFormat> = { F16: 'fp16', BF16: 'bf16', F32: 'fp32' };
const argsOf = (c: Case) => c.config.config_groups.group_0.weights;
const titled = cases.map((c) => {
  const { num_bits, type, strategy, group_size, symmetric, actorder } = argsOf(c);
  const more = `${group_size ? ` ${group_size}` : ''}${symmetric ? '' : ' asymmetric'}${actorder ? ' act-order' : ''}`;
  return { ...c, title: `${c.format} ${type}${num_bits} per ${strategy}${more} [${c.out}, ${c.in}]${c.old ? ', 0.9.4' : ''}` };
});

const open = async (tensors: Record<string, Stored>, config: unknown) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of the package, and its bytes again', async (c) => {
    const norm: Stored = { dtype: 'F16', shape: [4], data: Uint8Array.of(0, 60, 0, 64, 0, 66, 0, 68) };
    const model = await open({ ...under(L, c.tensors), 'model.norm.weight': norm }, c.config);
    expect(model.format).toBe('compressed-tensors');
    expect([...model.tensors.keys()].sort()).toEqual([W, 'model.norm.weight']);
    const info = model.tensors.get(W)!;
    expect(info.shape).toEqual([c.out, c.in]);
    expect(info.bytes).toBe(Object.values(c.tensors).reduce((n, t) => n + t.data.length, 0));
    const t = await model.read(W);
    expect(fnv(encodeFloats(FLOATS[c.dtype]!, decode(t).data))).toBe(c.weight);
    const format = c.format === 'naive-quantized' ? 'int-quantized' : (c.format as CompressedTensorsFormat);
    const again = await storedOf(
      toCompressedTensors(W, t, { packing: c.old ? 'whole' : 'stream', ...(t.kind === 'affine' && { format }) }),
    );
    expect(again).toEqual(under(L, c.tensors));
    await model.close();
  });

  it('cover all formats, all widths, both packings, all ways of sharing scales', () => {
    const seen = new Set(titled.flatMap((c) => [c.format, `${argsOf(c).strategy}`, `${argsOf(c).num_bits} ${c.old}`, c.dtype]));
    for (const bits of [2, 3, 4, 5, 6, 7, 8]) expect(seen).toContain(`${bits} false`);
    for (const bits of [3, 5, 6, 7]) expect(seen).toContain(`${bits} true`);
    for (const strategy of ['tensor', 'channel', 'group', 'block', 'tensor_group']) expect(seen).toContain(strategy);
    for (const format of ['pack', 'int', 'float', 'naive', 'nvfp4-pack', 'mxfp4-pack', 'mxfp6-pack', 'mxfp8'])
      expect(seen).toContain(`${format}-quantized`);
    for (const dtype of Object.keys(FLOATS)) expect(seen).toContain(dtype);
  });

  it('presets are those of the package', () => {
    const file = new URL('./golden/compressed-tensors-presets.json', import.meta.url);
    const presets = Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Record<string, Record<string, object>>);
    expect(presets.length).toBeGreaterThan(30);
    for (const [name, scheme] of presets) {
      const ours = presetScheme(name.toLowerCase()) as Record<string, object>;
      expect(Object.keys(ours), name).toEqual(Object.keys(scheme));
      for (const [key, args] of Object.entries(scheme)) {
        const { scale_dtype: _, ...fields } = ours[key] as Record<string, unknown>;
        expect({ symmetric: true, group_size: null, dynamic: false, ...fields }, name).toEqual(args);
      }
    }
    for (const name of ['W9A16', 'W5A4', 'W1A16', 'group_0', '__proto__', 'constructor']) expect(presetScheme(name)).toBeUndefined();
  });
});

/** The golden case with these facts. */
const golden = (format: string, args: Record<string, unknown> = {}, old = false): Case & { tensors: Record<string, Stored> } =>
  cases.find((c) => c.format === format && c.old === old && Object.entries(args).every(([key, v]) => argsOf(c)[key] === v))!;

/** A golden case with some parts replaced; `undefined` takes one away. */
function but(c: { tensors: Record<string, Stored> }, changes: Record<string, Stored | undefined>, module = L): Record<string, Stored> {
  const all = { ...c.tensors, ...changes };
  return under(module, Object.fromEntries(Object.entries(all).filter((e): e is [string, Stored] => e[1] !== undefined)));
}

/** The configuration of a golden case with other arguments of its weights, or its group, or itself. */
function config(c: Case, weights: object = {}, group: object = {}, own: object = {}): Record<string, unknown> {
  const { group_0 } = c.config.config_groups;
  return { ...c.config, config_groups: { group_0: { ...group_0, weights: { ...group_0.weights, ...weights }, ...group } }, ...own };
}

const stored = (dtype: string, shape: number[], data: ArrayBufferView): Stored => ({
  dtype,
  shape,
  data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
});
/** The same with one byte replaced. */
const poke = (t: Stored, at: number, byte: number): Stored => ({ ...t, data: t.data.map((b, i) => (i === at ? byte : b)) });

const sym4 = golden('pack-quantized', { num_bits: 4, symmetric: true, strategy: 'group' });
const asym4 = golden('pack-quantized', { num_bits: 4, symmetric: false, strategy: 'group' });
const act4 = golden('pack-quantized', { actorder: 'group' }, true);
const int8 = golden('int-quantized', { num_bits: 8, strategy: 'channel' });
const int4 = golden('int-quantized', { num_bits: 4 });
const fp8 = golden('float-quantized', { strategy: 'channel' });
const nvfp4 = golden('nvfp4-pack-quantized');
const mxfp4 = golden('mxfp4-pack-quantized');
const mxfp8 = golden('mxfp8-quantized');
const bf16 = (out: number, inputs: number) => stored('BF16', [out, inputs], new Uint16Array(out * inputs).fill(0x3f80));

describe('configuration', () => {
  const bad = async (own: Record<string, unknown>, code: 'model/config' | 'model/unsupported' = 'model/config') =>
    expectFailure(() => open(but(sym4, {}), own), code, { op: 'openCompressedTensors', file: 'config.json' });

  it('values that cannot be', async () => {
    for (const weights of [
      ...[0, 9, -4, '4', 4.5, Number.NaN, [4]].map((num_bits) => ({ num_bits })),
      ...[0, -2, 1.5, '32'].map((group_size) => ({ group_size })),
      { type: 'nf4' },
      { type: 3 },
      { symmetric: 1 },
      { strategy: 'token' },
      { group_size: null },
      { strategy: 'block' },
      ...[[128], ['a', 'b'], [0, 128], '128', '1x2x3', 'axb', {}].map((block_structure) => ({ strategy: 'block', block_structure })),
      { actorder: 'sideways' },
      { actorder: 1 },
    ])
      await bad(config(sym4, weights));
    for (const group of [
      { weights: 4 },
      { targets: 'Linear' },
      { targets: [1] },
      { input_activations: 8 },
      { input_activations: { type: 'bool' } },
      { input_activations: { num_bits: 64 } },
      { output_activations: { strategy: '\u001b[31m' } },
    ])
      await bad(config(sym4, {}, group));
    for (const own of [
      { kv_cache_scheme: 8 },
      { ignore: 'lm_head' },
      { ignore: [1] },
      { config_groups: [] },
      { config_groups: { a: 1 } },
      { config_groups: { W99A1: ['Linear'] } },
    ])
      await bad({ ...sym4.config, ...own });
    await expectFailure(async () => openCompressedTensors(await safetensorsOf({}), 'none'), 'model/config');
    await expectFailure(async () => openCompressedTensors(await safetensorsOf({}), { quant_method: 'gptq' }), 'model/config');
    const packing = 'tight' as 'whole';
    await expectFailure(async () => openCompressedTensors(await safetensorsOf({}), sym4.config, { packing }), 'argument/option');
  });

  it('what is not read, by name', async () => {
    for (const format of ['marlin-24', 'sparse-24-bitmask', 'sparse-bitmask', 'q9']) {
      expect((await bad({ ...sym4.config, format }, 'model/unsupported')).facts.found).toBe(format);
      expect((await bad(config(sym4, {}, { format }), 'model/unsupported')).facts.found).toBe(format);
    }
    for (const [key, value] of [
      ['sparsity_config', { format: 'sparse-24-bitmask' }],
      ['transform_config', { config_groups: { u: {} } }],
      ['moe_sparsity_config', { method: 'prune' }],
    ] as const)
      expect((await bad({ ...sym4.config, [key]: value }, 'model/unsupported')).facts.found).toContain(key);
    const none = { sparsity_config: { format: 'dense' }, transform_config: {}, moe_sparsity_config: null, version: '0.12.0' };
    await open(but(sym4, {}), { ...sym4.config, ...none });
  });

  it('presets by the name of a group', async () => {
    const fp = golden('float-quantized', { strategy: 'channel' });
    const model = await open(but(fp, {}), {
      quant_method: 'compressed-tensors',
      format: 'float-quantized',
      config_groups: { fp8_dynamic: ['Linear'] },
    });
    expect(await model.read(W)).toEqual(await (await open(but(fp, {}), fp.config)).read(W));
    expect(model.warnings).toEqual([expect.stringContaining('fp8 (per token, dynamic scales)')]);
  });

  it('older spellings', async () => {
    const block = golden('float-quantized', { strategy: 'block' });
    const sizes = argsOf(block).block_structure as number[];
    const want = await (await open(but(block, {}), block.config)).read(W);
    expect(await (await open(but(block, {}), config(block, { block_structure: sizes.join('x') }))).read(W)).toEqual(want);
    // without a strategy, the group size says which
    await open(but(sym4, {}), config(sym4, { strategy: null }));
    await open(but(int8, {}), config(int8, { strategy: undefined, group_size: -1 }));
    const { weight_scale } = int8.tensors;
    await open(but(int8, { weight_scale: { ...weight_scale!, shape: [9] } }), int8.config); // a vector of scales
  });

  it('against the shapes', async () => {
    for (const weights of [
      { num_bits: 8 },
      { group_size: 16 },
      { strategy: 'channel', group_size: null },
      { type: 'float' },
      { group_size: 40 },
    ]) {
      const e = await expectFailure(() => open(but(sym4, {}), config(sym4, weights)), 'model/config', { tensor: W });
      expect(e.message).toContain('no group');
    }
    for (const [c, other] of [
      [sym4, 'int-quantized'],
      [int8, 'pack-quantized'],
      [fp8, 'mxfp8-quantized'],
      [mxfp8, 'float-quantized'],
      [nvfp4, 'mxfp4-pack-quantized'],
      [mxfp4, 'nvfp4-pack-quantized'],
      [int8, 'dense'],
    ] as const)
      await expectFailure(() => open(but(c, {}), { ...c.config, format: other }), 'model/config', { tensor: W });
    const half = but(asym4, { weight_zero_point: undefined });
    await expectFailure(() => open(half, asym4.config), 'model/config', { tensor: W });
  });

  it('mixed precision: shapes say which group a linear is of, patterns are not run', async () => {
    const evil = ['re:(a+)+$', 're:.*', 're:('];
    const group = (c: Case, targets: string[]) => ({ ...c.config.config_groups.group_0, targets, format: c.format });
    const groups = {
      a: group(fp8, evil),
      b: group(nvfp4, ['Linear']),
      c: group(sym4, ['re:.*c']),
      d: group(int4, ['x.d']),
      e: group(mxfp4, evil),
    };
    const all = { a: fp8, b: nvfp4, c: sym4, d: int4, e: mxfp4 };
    const tensors = Object.assign({}, ...Object.entries(all).map(([module, c]) => but(c, {}, module)), { 'lm_head.weight': bf16(4, 4) });
    const model = await open(tensors, {
      ...sym4.config,
      format: 'mixed-precision',
      config_groups: groups,
      ignore: ['re:.*head', 'lm_head'],
    });
    expect([...model.tensors.values()].map((t) => `${t.name} ${t.format}`).sort()).toEqual([
      'a.weight fp8e4m3 per row',
      'b.weight nvfp4',
      'c.weight affine 4-bit g32',
      'd.weight affine 4-bit g16',
      'e.weight mxfp4',
      'lm_head.weight bf16',
    ]);
    for (const [module, c] of Object.entries(all))
      expect(fnv(encodeFloats(FLOATS[c.dtype]!, decode(await model.read(`${module}.weight`)).data)), module).toBe(c.weight);
    // formats need not be said
    const unsaid = Object.fromEntries(Object.entries(groups).map(([key, { format: _, ...rest }]) => [key, rest]));
    const again = await open(tensors, { ...sym4.config, format: 'mixed-precision', config_groups: unsaid });
    expect([...again.tensors.values()]).toEqual([...model.tensors.values()]);
  });

  it('groups that fit alike', async () => {
    const { group_0 } = int4.config.config_groups;
    const wide = { ...group_0, weights: { ...group_0.weights, num_bits: 8 } };
    const model = await open(but(int4, {}), { ...int4.config, config_groups: { a: group_0, b: wide } });
    const t = (await model.read(W)) as Affine;
    expect(t.bits).toBe(8); // the same integers
    expect(decode(t)).toEqual(decode(await (await open(but(int4, {}), int4.config)).read(W)));
    // 32 inputs of 4 bits, or of 3 bits packed as before
    const words = { weight_packed: stored('I32', [2, 4], new Int32Array(8)), weight_shape: stored('I64', [2], BigInt64Array.of(2n, 32n)) };
    const tiny = under(L, { ...words, weight_scale: bf16(2, 1) });
    const of = (num_bits: number) => ({ targets: [], weights: { num_bits, type: 'int', strategy: 'channel' } });
    const both = { ...sym4.config, config_groups: { a: of(3), b: of(4) } };
    expect((await expectFailure(() => open(tiny, both), 'model/config', { tensor: W })).message).toContain('several groups');
  });
});

describe('what weights do not show', () => {
  it('activations and caches become warnings, and their scales are left out', async () => {
    const scale = stored('F32', [1], Float32Array.of(1));
    const cache = { num_bits: 8, type: 'float', strategy: 'tensor', dynamic: false };
    const tensors = {
      ...but(int8, { input_scale: scale, input_zero_point: stored('I8', [1], Int8Array.of(3)) }), // left over: a scale per token has none
      'model.layers.0.self_attn.k_scale': scale,
      'model.layers.0.self_attn.v_scale': scale,
      'model.layers.0.self_attn.k_proj.output_scale': scale,
    };
    const group = { output_activations: { num_bits: 8, type: 'int', strategy: 'tensor' } };
    const model = await open(tensors, config(int8, {}, group, { kv_cache_scheme: cache }));
    expect([...model.tensors.keys()]).toEqual([W]);
    expect(model.inputs).toEqual(new Map([[W, { kind: 'int8', per: 'token', symmetric: true }]]));
    expect(model.warnings).toEqual([
      'The model was made for outputs of its linears in int8 (per tensor, static scales); lmq does not round them so.',
      'The model was made for a key-value cache in fp8 (per tensor, static scales); lmq does not round the cache so.',
    ]);
    expect(guardNonFinite(model, 'error').warnings).toBe(model.warnings);
    expect((await open(but(sym4, {}), sym4.config)).warnings).toEqual([]);
  });

  it('int8 inputs of integer weights are kept, static ones with their scales', async () => {
    const input = (args: object) => config(int8, {}, { input_activations: { num_bits: 8, type: 'int', ...args } });
    const inputOf = async (args: object, parts = {}) => (await open(but(int8, parts), input(args))).inputs?.get(W);
    const scale = stored('BF16', [1], Uint16Array.of(0x3e80)); // 0.25
    const zero = stored('I8', [1], Int8Array.of(-3));
    expect(await inputOf({ strategy: 'tensor', dynamic: true })).toEqual({ kind: 'int8', per: 'tensor', symmetric: true });
    expect(await inputOf({ strategy: 'token', dynamic: true, symmetric: false })).toEqual({ kind: 'int8', per: 'token', symmetric: false });
    const fixed = { kind: 'int8', per: 'tensor', static: { scale: 0.25, zeroPoint: 0 } };
    expect(await inputOf({}, { input_scale: scale })).toEqual({ ...fixed, symmetric: true });
    const asymmetric = await inputOf({ symmetric: false }, { input_scale: scale, input_zero_point: zero });
    expect(asymmetric).toEqual({ ...fixed, symmetric: false, static: { scale: 0.25, zeroPoint: -3 } });
    for (const args of [{ num_bits: 4 }, { type: 'float' }, { strategy: 'group' }, { strategy: 'tensor', dynamic: 'local' }]) {
      const model = await open(but(int8, {}), input({ dynamic: true, ...args }));
      expect(model.inputs, JSON.stringify(args)).toBe(undefined);
      expect(model.warnings![0]).toContain('lmq does not round them so');
    }
    await expectFailure(() => inputOf({}), 'file/format', { tensor: W, expected: `${L}.input_scale` });
    await expectFailure(() => inputOf({}, { input_scale: bf16(2, 1) }), 'file/format', { found: 'BF16 [2, 1]' });
    await expectFailure(() => inputOf({}, { input_scale: stored('F32', [1], Float32Array.of(0)) }), 'file/format', { found: 0 });
    await expectFailure(() => inputOf({}, { input_scale: scale, input_zero_point: zero }), 'model/config', { found: -3 });
  });

  it('only a cache is quantized', async () => {
    const tensors = { 'a.weight': bf16(2, 2), 'a.k_scale': stored('F32', [1], Float32Array.of(1)) };
    const kv_cache_scheme = { num_bits: 8, type: 'float', strategy: 'tensor' };
    const model = await open(tensors, { quant_method: 'compressed-tensors', config_groups: {}, kv_cache_scheme });
    expect([...model.tensors.keys()]).toEqual(['a.weight']);
    expect(model.format).toBe('safetensors'); // may be quantized
    expect((await model.read('a.weight')).kind).toBe('dense');
    expect(model.warnings).toHaveLength(1);
  });

  it('the configuration under its name of 2024', async () => {
    const model = await openQuantized(await safetensorsOf(but(sym4, {})), { compression_config: sym4.config });
    expect(await model.read(W)).toEqual(await (await open(but(sym4, {}), sym4.config)).read(W));
  });

  it('dense: weights as they are stored', async () => {
    const weight = bf16(4, 8);
    const dense = { ...config(sym4, {}, {}, { format: 'dense' }) };
    const model = await open(under(L, { weight, weight_scale: bf16(4, 1) }), dense);
    expect(await model.read(W)).toEqual({ kind: 'dense', shape: [4, 8], format: 'bf16', data: new Uint16Array(32).fill(0x3f80) });
    expect(model.warnings).toEqual([]);
    const early = await open(under(L, { weight, weight_scale: bf16(4, 1) }), { ...dense, quantization_status: 'frozen\u001b[2J' });
    expect(early.warnings![0]).toContain('(frozen\\u001b[2j)');
    expect([...(await open({ [W]: weight }, dense)).tensors.keys()]).toEqual([W]); // no scales beside
    await expectFailure(() => open(under(L, { weight, weight_scale: bf16(4, 1) }), sym4.config), 'model/config', { tensor: W });
  });

  it('modules that ignore names, and are quantized', async () => {
    const model = await open(but(sym4, {}), { ...sym4.config, ignore: [L, 'lm_head', 're:.*'] });
    expect(model.warnings).toEqual([expect.stringMatching(/^1 modules/)]);
  });
});

describe('parts', () => {
  it.each(['weight_scale', 'weight_packed', 'weight_shape'])('%s missing', async (part) => {
    await expectFailure(() => open(but(sym4, { [part]: undefined }), sym4.config), 'file/format', { file: 'model.safetensors' });
  });

  it('missing in other formats', async () => {
    await expectFailure(() => open(but(act4, { weight_g_idx: undefined }), act4.config), 'file/format', { expected: `${L}.weight_g_idx` });
    await expectFailure(() => open(but(nvfp4, { weight_global_scale: undefined }), nvfp4.config), 'file/format', {
      expected: `${L}.weight_global_scale`,
    });
    await expectFailure(() => open(but(int8, { weight: undefined }), int8.config), 'file/format', { tensor: W, found: 'neither' });
    await expectFailure(() => open({ 'a.weight': bf16(1, 1) }, sym4.config), 'model/config', {
      expected: 'tensors named <module>.weight_scale',
    });
    await expectFailure(async () => openQuantized(await safetensorsOf(but(sym4, {})), {}), 'model/config', {
      expected: 'quantization_config',
    });
  });

  it('left over', async () => {
    const stray = stored('I32', [4], new Int32Array(4));
    for (const name of ['a.weight_packed', 'a.weight_g_idx', 'weight_shape', 'weight_scale'])
      await expectFailure(() => open({ ...but(sym4, {}), [name]: stray }, sym4.config), 'file/format', { tensor: name });
    for (const part of ['qweight', 'perm']) await expectFailure(() => open(but(sym4, { [part]: stray }), sym4.config), 'file/format');
    await expectFailure(() => open(but(sym4, { weight: bf16(8, 96) }), sym4.config), 'file/format', { tensor: W, found: 'both' });
    for (const part of ['weight_zero_point', 'weight_g_idx', 'weight_shape', 'weight_global_scale'])
      await expectFailure(() => open(but(fp8, { [part]: stray }), fp8.config), 'file/format', { tensor: W, found: part });
  });

  it('of the wrong dtype, rank or shape', async () => {
    const damaged: [typeof sym4, string, Partial<Stored>][] = [
      [sym4, 'weight_packed', { dtype: 'F32' }],
      [sym4, 'weight_packed', { shape: [96] }],
      [sym4, 'weight_packed', { shape: [0, 12], data: new Uint8Array(0) }],
      [sym4, 'weight_scale', { dtype: 'I16' }],
      [sym4, 'weight_shape', { dtype: 'F64' }],
      [sym4, 'weight_shape', stored('I64', [3], BigInt64Array.of(1n, 8n, 96n))],
      [sym4, 'weight_shape', stored('I64', [2], BigInt64Array.of(9n, 96n))],
      [sym4, 'weight_shape', stored('I64', [2], BigInt64Array.of(8n, -96n))],
      [sym4, 'weight_shape', stored('I32', [2], Int32Array.of(8, 0))],
      [asym4, 'weight_zero_point', { dtype: 'F32' }],
      [asym4, 'weight_zero_point', { shape: [6, 2] }],
      [act4, 'weight_g_idx', stored('I32', [63], new Int32Array(63))],
      [int8, 'weight', { shape: [216] }],
      [int4, 'weight_zero_point', stored('I8', [9], new Int8Array(9))],
      [fp8, 'weight_scale', stored('F32', [9, 0], new Float32Array(0))],
      [nvfp4, 'weight_global_scale', stored('F32', [2], Float32Array.of(1, 1))],
      [nvfp4, 'weight_global_scale', stored('F16', [1], Uint16Array.of(1))],
    ];
    for (const [c, part, change] of damaged) {
      const e = await expectFailure(() => open(but(c, { [part]: { ...c.tensors[part]!, ...change } }), c.config), 'file/format', {
        tensor: W,
      });
      expect(e.message, `${part} ${JSON.stringify(change.shape)}`).toContain(part);
    }
    // a shape that no group has is a contradiction of the configuration
    const { weight_scale, weight_packed } = sym4.tensors;
    for (const changes of [
      { weight_scale: { ...weight_scale!, shape: [4, 6] } },
      { weight_scale: { ...weight_scale!, shape: [1, 8, 3] } },
      { weight_packed: { ...weight_packed!, shape: [8, 6, 2] } },
      { weight_shape: stored('I64', [2], BigInt64Array.of(8n, 64n)) },
      { weight_shape: stored('I64', [2], BigInt64Array.of(8n, 2n ** 60n)) },
    ])
      await expectFailure(() => open(but(sym4, changes), sym4.config), changes.weight_packed ? 'file/format' : 'model/config', {
        tensor: W,
      });
  });

  it('a bias stays, if it has the right length', async () => {
    const bias = (n: number) => stored('F16', [n], new Uint16Array(n));
    const model = await open(but(sym4, { bias: bias(8) }), sym4.config);
    expect([...model.tensors.keys()].sort()).toEqual([`${L}.bias`, W]);
    await expectFailure(() => open(but(sym4, { bias: bias(9) }), sym4.config), 'file/format', { tensor: W, expected: '[8]' });
  });
});

describe('what only the data shows', () => {
  const reads = async (tensors: Record<string, Stored>, own: unknown) => (await open(tensors, own)).read(W);

  it('zero points of a symmetric linear', async () => {
    const e = await expectFailure(() => reads(but(asym4, {}), config(asym4, { symmetric: true })), 'model/config', {
      op: 'read',
      tensor: W,
    });
    expect(e.facts.hint).toContain('symmetric');
    const zeros = stored('I8', [8, 3], new Int8Array(24));
    expect(await reads(but(sym4, { weight_zero_point: zeros }), sym4.config)).toEqual(await reads(but(sym4, {}), sym4.config));
  });

  it('zero points that are not packed', async () => {
    const t = (await reads(but(asym4, {}), asym4.config)) as Affine;
    const parts = await storedOf(toCompressedTensors(W, t, { format: 'int-quantized' }));
    const plain = parts[`${L}.weight_zero_point`]!;
    expect(plain.dtype).toBe('I8');
    expect(await reads(but(asym4, { weight_zero_point: plain }), asym4.config)).toEqual(t);
  });

  it('integers beyond their bits', async () => {
    const { weight, weight_zero_point } = int4.tensors as Record<string, Stored>;
    const e = await expectFailure(() => reads(but(int4, { weight: poke(weight!, 5, 8) }), int4.config), 'file/format', {
      op: 'read',
      found: 8,
    });
    expect(e.message).toContain('element 5');
    await expectFailure(() => reads(but(int4, { weight_zero_point: poke(weight_zero_point!, 1, 0xf7) }), int4.config), 'file/format', {
      found: -9,
    });
  });

  it('act-order that was not announced, groups that are none, or uneven; -1 everywhere is none', async () => {
    const index = new Int32Array(act4.tensors.weight_g_idx!.data.slice().buffer);
    const read = (g: Int32Array, own = act4.config as unknown) => reads(but(act4, { weight_g_idx: stored('I32', [64], g) }), own);
    const with3 = (g: number) => index.map((was, c) => (c === 3 ? g : was));
    for (const actorder of [null, 'weight', 'static', false])
      await expectFailure(() => read(index, config(act4, { actorder })), 'model/config', { op: 'read', tensor: W });
    for (const actorder of ['dynamic', true]) expect(((await read(index, config(act4, { actorder }))) as Affine).groupIndex).toEqual(index);
    await expectFailure(() => read(with3(4)), 'file/format', { found: 4 });
    await expectFailure(() => read(with3(-1)), 'file/format', { found: -1 });
    await expectFailure(() => read(with3((index[3]! + 1) % 4)), 'file/format');
    expect(((await read(new Int32Array(64).fill(-1))) as Affine).groupIndex).toBeUndefined();
    const ordered = Int32Array.from({ length: 64 }, (_, c) => c >> 4);
    expect(((await read(ordered, config(act4, { actorder: null }))) as Affine).groupIndex).toBeUndefined();
  });

  it('how codes are packed, where the size does not tell', async () => {
    const rng = createRng(3);
    const codes = Uint8Array.from({ length: 2 * 40 }, () => rng.below(8));
    const scales = { block: [1, 40] as [number, number], format: 'fp16' as const, data: Uint16Array.of(0x3c00, 0x4000) };
    const t: Affine = { kind: 'affine', shape: [2, 40], bits: 3, groupSize: 40, codes: packRows(codes, 3, 2, 40), scales };
    const own = compressedTensorsConfig({ linears: [[W, compressedTensorsScheme(W, t)]] });
    for (const packing of ['stream', 'whole'] as const) {
      const file = await safetensorsOf(await storedOf(toCompressedTensors(W, t, { packing })));
      const e = await expectFailure(() => openCompressedTensors(file, own), 'file/format', { tensor: W });
      expect(e.facts.hint).toContain("{ packing: 'whole' }");
      expect(await (await openCompressedTensors(file, own, { packing })).read(W)).toEqual(t);
    }
  });

  it('scales that are not numbers', async () => {
    const nan = (c: typeof sym4, part: string, data: Uint8Array) =>
      expectFailure(() => reads(but(c, { [part]: { ...c.tensors[part]!, data } }), c.config), 'file/format', { tensor: W });
    await nan(
      sym4,
      'weight_scale',
      sym4.tensors.weight_scale!.data.map(() => 0xff),
    );
    await nan(
      mxfp4,
      'weight_scale',
      mxfp4.tensors.weight_scale!.data.map(() => 0xff),
    );
    await nan(
      nvfp4,
      'weight_scale',
      nvfp4.tensors.weight_scale!.data.map(() => 0x7f),
    );
    for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      await nan(nvfp4, 'weight_global_scale', new Uint8Array(Float32Array.of(value).buffer));
  });

  it('more than there is memory for', async () => {
    const physical = await safetensorsOf(but(sym4, {}));
    const full = (name: string) =>
      name.endsWith('shape') ? physical.readBytes(name) : Promise.reject(new RangeError('allocation failed'));
    const model = await openCompressedTensors({ ...physical, readBytes: full }, sym4.config);
    await expectFailure(() => model.read(W), 'file/limit', { file: 'model.safetensors', tensor: W });
  });
});

describe('writing', () => {
  const rng = createRng(11);
  const affine = (out: number, inputs: number, facts: Partial<Affine> & { block?: [number, number] } = {}): Affine => {
    const { block = [1, 16], ...rest } = facts;
    const bits = facts.bits ?? 4;
    const count = Math.ceil(out / block[0]) * Math.ceil(inputs / block[1]);
    return {
      kind: 'affine',
      shape: [out, inputs],
      bits,
      groupSize: block[1],
      codes: packRows(
        Uint8Array.from({ length: out * inputs }, () => rng.below(2 ** bits)),
        bits,
        out,
        inputs,
      ),
      scales: { block, format: 'fp16', data: Uint16Array.from({ length: count }, () => 0x3c00 + rng.below(1024)) },
      ...rest,
    };
  };
  const weights = (out: number, inputs: number) =>
    matrix(
      Float32Array.from({ length: out * inputs }, () => rng.normal()),
      out,
      inputs,
    );
  const minifloat = (out: number, inputs: number, facts: Partial<Minifloat> = {}): Minifloat => ({
    kind: 'minifloat',
    shape: [out, inputs],
    format: 'fp8e4m3',
    codes: Uint8Array.from({ length: out * inputs }, () => rng.below(127)),
    scales: { block: [out, inputs], format: 'fp32', data: Float32Array.of(0.5) },
    ...facts,
  });
  const reopened = async (t: CompressedTensor, opts: Parameters<typeof toCompressedTensors>[2] = {}) => {
    const own = compressedTensorsConfig({ linears: [[W, compressedTensorsScheme(W, t, opts)]], ignore: ['lm_head'] });
    return (await open(await storedOf(toCompressedTensors(W, t, opts)), own)).read(W);
  };

  it('any integers are read back as they were, in both formats and packings', async () => {
    const any = fc.record({
      out: fc.integer({ min: 1, max: 20 }),
      groups: fc.integer({ min: 1, max: 4 }),
      size: fc.integer({ min: 1, max: 40 }),
      rows: fc.constantFrom(1, 1, 3, 99),
      bits: fc.integer({ min: 1, max: 8 }),
      asymmetric: fc.boolean(),
      format: fc.constantFrom('pack-quantized' as const, 'int-quantized' as const),
      packing: fc.constantFrom('stream' as const, 'whole' as const),
    });
    await fc.assert(
      fc.asyncProperty(any, async ({ out, groups, size, rows, bits, asymmetric, ...opts }) => {
        const inputs = groups * size;
        const block: [number, number] = [Math.min(rows, out), rows > out ? inputs : size];
        const count = Math.ceil(out / block[0]) * Math.ceil(inputs / block[1]);
        const zeros = Uint8Array.from({ length: count }, () => rng.below(2 ** bits)).fill(0, 0, 1); // not all in the middle
        const t = affine(out, inputs, { bits, block, ...(asymmetric && { zeroPoints: packStream(zeros, bits) }) });
        const own = compressedTensorsConfig({ linears: [[W, compressedTensorsScheme(W, t, opts)]] });
        const file = await safetensorsOf(await storedOf(toCompressedTensors(W, t, opts)));
        expect(await (await openCompressedTensors(file, own, { packing: opts.packing })).read(W)).toEqual(t);
      }),
      { numRuns: 300 },
    );
  });

  it.each<InputQuant>([
    { kind: 'int8', per: 'token', symmetric: true },
    { kind: 'int8', per: 'token', symmetric: false },
    { kind: 'int8', per: 'tensor', symmetric: true, static: { scale: 0.1, zeroPoint: 0 } },
    { kind: 'int8', per: 'tensor', symmetric: false, static: { scale: 3, zeroPoint: -128 } },
  ])('how inputs are rounded, too: %j', async (input) => {
    const t = affine(4, 32, { bits: 8, block: [1, 32] });
    const scheme = compressedTensorsScheme(W, t, { input });
    expect(scheme.format).toBe('int-quantized');
    const model = await open(
      await storedOf(toCompressedTensors(W, t, { input })),
      compressedTensorsConfig({ linears: [[W, scheme]], ignore: ['lm_head'] }),
    );
    const { static: found, ...rest } = input as InputQuant & { kind: 'int8' };
    expect(model.inputs?.get(W)).toEqual(found ? { ...rest, static: { ...found, scale: Math.fround(found.scale) } } : input);
    expect(await model.read(W)).toEqual(t);
  });

  it('inputs of LLM.int8(), and of floats, are not said', () => {
    const llm: InputQuant = { kind: 'llm-int8', threshold: 6 };
    expect(() => toCompressedTensors(W, affine(4, 32, { bits: 8, block: [1, 32] }), { input: llm })).toThrow(/inputs cannot be rounded so/);
    expect(() => toCompressedTensors(W, minifloat(2, 2), { input: { kind: 'int8', per: 'token', symmetric: true } })).toThrow(
      /another format/,
    );
  });

  it('floats are read back as they were', async () => {
    const w = weights(6, 64);
    const fp8s: Minifloat[] = [
      minifloat(6, 64),
      minifloat(6, 64, { scales: { block: [1, 64], format: 'bf16', data: new Uint16Array(6).fill(0x3f80) } }),
      minifloat(6, 64, { scales: { block: [4, 16], format: 'fp16', data: new Uint16Array(8).fill(0x3c00) } }),
      minifloat(6, 64, { scales: { block: [1, 16], format: 'fp32', data: new Float32Array(24).fill(2) } }),
    ];
    const mx = (['fp4e2m1', 'fp6e2m3', 'fp8e4m3'] as const).map((f) => encodeMx(f, w, { scaleRule: 'compressed-tensors' }));
    for (const t of [...fp8s, ...mx, encodeNvfp4(w)]) expect(await reopened(t)).toEqual(t);
    const { scales: _, ...bare } = minifloat(6, 64);
    expect(decode(await reopened(bare))).toEqual(decode(bare)); // with a scale of 1
    const nv = encodeNvfp4(w);
    const { global: __, ...local } = nv.scales!;
    expect(decode(await reopened({ ...nv, scales: local }))).toEqual(decode({ ...nv, scales: local }));
  });

  it('act-order', async () => {
    const t = affine(4, 64, { groupIndex: Int32Array.from({ length: 64 }, (_, c) => (c * 5) % 4) });
    expect(compressedTensorsScheme(W, t).weights.actorder).toBe('group');
    for (const format of ['pack-quantized', 'int-quantized'] as const) expect(await reopened(t, { format })).toEqual(t);
    const one = affine(4, 16, { groupIndex: new Int32Array(16) }); // one group is in order
    expect(Object.keys(await storedOf(toCompressedTensors(W, one)))).not.toContain(`${L}.weight_g_idx`);
  });

  it.each<[string, CompressedTensor, CompressedTensorsFormat?]>([
    ['affine or minifloat', { kind: 'dense', shape: [1, 1], format: 'fp32', data: new Float32Array(1) }],
    ['a multiple of 16', affine(4, 40)],
    ['fp16 or bf16', affine(4, 32, { scales: { block: [1, 16], format: 'fp32', data: new Float32Array(8).fill(1) } })],
    ['integers 0 … 15', affine(4, 32, { zeroPoints: { format: 'fp16', data: new Uint16Array(8).fill(0x4780) } })],
    ['16 columns a group', affine(4, 32, { groupIndex: new Int32Array(32) })],
    ['groups', affine(4, 32, { block: [2, 16], groupIndex: Int32Array.from({ length: 32 }, (_, c) => c % 2) })],
    ['pack-quantized or int-quantized', affine(4, 32), 'float-quantized'],
    ['int-quantized', minifloat(2, 2), 'int-quantized'],
    ['fp8e4m3, fp6e2m3 or fp4e2m1', minifloat(2, 4, { format: 'fp8e5m2' })],
    ['one to divide by', encodeNvfp4(weights(2, 32), { scaleRule: 'torchao' })],
    ['1x32 e8m0 or 1x16 fp8e4m3', encodeMx('fp4e2m1', weights(2, 16))],
    ['float scales, or 1x32 e8m0', encodeMx('fp8e4m3', weights(2, 16))],
    ['a multiple of 32', encodeMx('fp6e2m3', weights(2, 40))],
    [
      'float scales, or 1x32 e8m0',
      minifloat(2, 32, { scales: { block: { flat: 16 }, format: 'fp32', data: new Float32Array(4).fill(1) } }),
    ],
  ])('needs %s', async (expected, t, format) => {
    const opts = format ? { format } : {};
    await expectFailure(() => toCompressedTensors(W, t, opts), 'export/unsupported', { op: 'toCompressedTensors', tensor: W, expected });
    await expectFailure(() => compressedTensorsScheme(W, t, opts), 'export/unsupported', { expected });
  });

  it('refuses other names and options', async () => {
    const t = affine(4, 32);
    for (const name of ['a', '.weight', 'a.bias', '']) await expectFailure(() => toCompressedTensors(name, t), 'argument/value');
    await expectFailure(() => toCompressedTensors(W, t, { packing: 'tight' as 'whole' }), 'argument/option');
    const scheme = compressedTensorsScheme(W, t);
    await expectFailure(() => compressedTensorsConfig({ linears: [] }), 'argument/option');
    await expectFailure(() => compressedTensorsConfig({ linears: [['a', scheme]] }), 'argument/value');
    await expectFailure(() => compressedTensorsConfig({ linears: [[W, scheme]], activations: 'static' as 'none' }), 'argument/option');
    await expectFailure(() => compressedTensorsConfig({ linears: [[W, scheme]], activations: 'dynamic' }), 'argument/option');
  });

  it('the configuration: one group of all linears, or groups that list theirs', () => {
    const four = compressedTensorsScheme('a.weight', affine(4, 32));
    const eight = compressedTensorsScheme('b.weight', affine(4, 32, { bits: 8, block: [1, 32] }), { format: 'int-quantized' });
    expect(
      compressedTensorsConfig({
        linears: [
          ['a.weight', four],
          ['b.weight', four],
        ],
        ignore: ['lm_head'],
      }),
    ).toEqual({
      quant_method: 'compressed-tensors',
      format: 'pack-quantized',
      quantization_status: 'compressed',
      config_groups: {
        group_0: {
          targets: ['Linear'],
          weights: { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 16, dynamic: false },
          input_activations: null,
          output_activations: null,
          format: 'pack-quantized',
        },
      },
      ignore: ['lm_head'],
      kv_cache_scheme: null,
      global_compression_ratio: null,
    });
    const mixed = compressedTensorsConfig({
      linears: [
        ['a.weight', four],
        ['b.weight', eight],
        ['c.weight', four],
      ],
    });
    expect(mixed).toMatchObject({
      format: 'mixed-precision',
      config_groups: { group_0: { targets: ['a', 'c'] }, group_1: { targets: ['b'], format: 'int-quantized' } },
    });
  });

  it('inputs rounded as the model runs', async () => {
    const inputs = (t: CompressedTensor, format?: CompressedTensorsFormat) => {
      const linears = [[W, compressedTensorsScheme(W, t, format ? { format } : {})]] as const;
      const own = compressedTensorsConfig({ linears, activations: 'dynamic' }) as { config_groups: { group_0: Record<string, object> } };
      return own.config_groups.group_0.input_activations;
    };
    const w = weights(4, 64);
    const args = { num_bits: 8, type: 'float', symmetric: true, dynamic: true };
    expect(inputs(affine(4, 32, { bits: 8, block: [1, 32] }), 'int-quantized')).toEqual({ ...args, type: 'int', strategy: 'token' });
    expect(inputs(minifloat(4, 32))).toEqual({ ...args, strategy: 'token' });
    const blocks = minifloat(4, 32, { scales: { block: [2, 16], format: 'fp32', data: new Float32Array(4).fill(1) } });
    expect(inputs(blocks)).toEqual({ ...args, strategy: 'group', group_size: 16 });
    for (const [format, num_bits] of [
      ['fp4e2m1', 4],
      ['fp6e2m3', 8],
      ['fp8e4m3', 8],
    ] as const)
      expect(inputs(encodeMx(format, w))).toEqual({ ...args, num_bits, strategy: 'group', group_size: 32, scale_dtype: 'torch.uint8' });
    await expectFailure(() => inputs(encodeNvfp4(w)), 'argument/option');
    const linears = [
      ['a.weight', compressedTensorsScheme('a.weight', encodeNvfp4(w))],
      ['b.weight', compressedTensorsScheme('b.weight', minifloat(4, 32))],
    ] as const;
    const { config_groups } = compressedTensorsConfig({ linears, activations: 'dynamic' }) as { config_groups: Record<string, object> };
    expect(config_groups).toMatchObject({ group_0: { input_activations: null }, group_1: { input_activations: args } });
  });
});
