import { decode, encodeFloats, packGptqZeros, packRows, packStream, zeroPointValues } from '@lmq/formats';
import type { Affine, CompressedTensor } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { openAwq } from '../src/awq.js';
import { awqConfig, toAwqTensors } from '../src/awq-write.js';
import { openGptq } from '../src/gptq.js';
import { gptqConfig, toGptqTensors } from '../src/gptq-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { openSharded } from '../src/sharded.js';
import { expectFailure, source } from './_files.js';
import {
  bytesOfFile,
  configOf,
  type GoldenCase,
  goldenCase,
  goldenCases,
  type Stored,
  safetensorsOf,
  storedOf,
  under,
} from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;

/** FNV-1a of the bytes of an array. */
function fnv(data: ArrayBufferView): string {
  let h = 2166136261;
  for (const b of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h.toString(16).padStart(8, '0');
}

const i32 = (values: Int32Array, shape: number[]): Stored => ({ dtype: 'I32', shape, data: new Uint8Array(values.buffer) });
/** The same with one value replaced. */
function set<A extends Uint8Array | Int32Array>(values: A, at: number, value: number): A {
  const out = values.slice() as A;
  out[at] = value;
  return out;
}

const open = async (tensors: Record<string, Stored>, config: unknown) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });
const titled = goldenCases.map((c) => ({
  ...c,
  title: `${c.format} ${c.version ?? ''} ${c.bits} bits [${c.out}, ${c.in}] g${c.group}${c.sym ? ' sym' : ''}${c.actOrder ? ' act-order' : ''}`,
}));

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of the packages, and their bytes again', async (c) => {
    const norm: Stored = { dtype: 'F16', shape: [4], data: Uint8Array.of(0, 60, 0, 64, 0, 66, 0, 68) };
    const model = await open({ ...under(L, c.tensors), 'model.norm.weight': norm }, configOf(c));
    expect(model.format).toBe(c.format);
    expect([...model.tensors.keys()].sort()).toEqual([W, 'model.norm.weight']);
    const info = model.tensors.get(W)!;
    expect(info.shape).toEqual([c.out, c.in]);
    expect(info.bytes).toBe(Object.values(c.tensors).reduce((n, t) => n + t.data.length, 0));
    expect(info.format).toBe(`affine ${c.bits}-bit ${c.group === c.in ? 'per row' : `g${c.group}`}`);
    const t = (await model.read(W)) as Affine;
    expect(t.kind).toBe('affine');
    expect(t.groupIndex !== undefined).toBe(c.actOrder);
    expect(t.zeroPoints === undefined).toBe(c.sym);
    expect(fnv(encodeFloats('fp16', decode(t).data))).toBe(c.weight);
    expect(await model.read('model.norm.weight')).toMatchObject({ kind: 'dense', shape: [1, 4], format: 'fp16' });
    const again = c.format === 'gptq' ? toGptqTensors(W, t, { version: c.version! }) : toAwqTensors(W, t);
    expect(await storedOf(again)).toEqual(under(L, c.tensors));
    await model.close();
  });

  it('in shards, with the parts of a linear in several of them', async () => {
    const c = goldenCase({ format: 'gptq', bits: 4, actOrder: true });
    const shards: Record<string, Record<string, Stored>> = { 'a.safetensors': {}, 'b.safetensors': {} };
    const weight_map: Record<string, string> = {};
    for (const [i, [name, t]] of Object.entries(under(L, c.tensors)).entries()) {
      const file = `${'ab'[i % 2]}.safetensors`;
      shards[file]![name] = t;
      weight_map[name] = file;
    }
    const physical = await openSharded(JSON.stringify({ weight_map }), 'index.json', async (file) =>
      source(await bytesOfFile(shards[file]!), file),
    );
    const model = await openQuantized(physical, { quantization_config: configOf(c) });
    expect(model.tensors.get(W)!.file).toBe(weight_map[`${L}.qweight`]);
    expect(fnv(encodeFloats('fp16', decode(await model.read(W)).data))).toBe(c.weight);
  });

  it('covers both versions, all widths and act-order', () => {
    const seen = goldenCases.map((c) => `${c.format} ${c.version ?? ''} ${c.bits}${c.actOrder ? ' act-order' : ''}`);
    for (const bits of [2, 3, 4, 8])
      for (const of of ['v1 x', 'v1 x act-order', 'v2 x act-order']) expect(seen).toContain(`gptq ${of.replace('x', String(bits))}`);
    expect(seen).toContain('awq  4');
  });
});

/** A golden case with some parts replaced; `undefined` takes one away. */
function but(c: GoldenCase, changes: Record<string, Stored | undefined>, module = L): Record<string, Stored> {
  const all = { ...under(module, c.tensors), ...changes };
  return Object.fromEntries(Object.entries(all).filter((e): e is [string, Stored] => e[1] !== undefined));
}

const act4 = goldenCase({ format: 'gptq', bits: 4, actOrder: true, version: 'v1' });
const sym4 = goldenCase({ format: 'gptq', bits: 4, sym: true });
const awq = goldenCase({ format: 'awq' });

describe('parts', () => {
  it.each(['qzeros', 'scales', 'g_idx'])('%s missing', async (part) => {
    const e = await expectFailure(() => open(but(act4, { [`${L}.${part}`]: undefined }), configOf(act4)), 'file/format', {
      op: 'openGptq',
      file: 'model.safetensors',
      tensor: W,
      expected: `${L}.${part}`,
    });
    expect(e.facts.hint).toMatch(/Download/);
  });

  it('g_idx may be missing where there is no act-order', async () => {
    const model = await open(but(sym4, { [`${L}.g_idx`]: undefined }), configOf(sym4));
    const whole = await open(but(sym4, {}), configOf(sym4));
    expect(await model.read(W)).toEqual(await whole.read(W));
  });

  it('left over', async () => {
    const stray = i32(new Int32Array(4), [4]);
    for (const name of ['a.qzeros', 'a.g_idx', 'qweight', 'scales'])
      await expectFailure(() => open(but(act4, { [name]: stray }), configOf(act4)), 'file/format', { tensor: name });
    for (const part of ['weight', 'perm', 'qweight_type'])
      await expectFailure(() => open(but(act4, { [`${L}.${part}`]: stray }), configOf(act4)), 'file/format', { tensor: `${L}.${part}` });
    await expectFailure(() => open(but(awq, { [`${L}.g_idx`]: stray }), configOf(awq)), 'file/format', { tensor: `${L}.g_idx` });
  });

  it('of the wrong dtype, rank or shape', async () => {
    const { qweight, qzeros, scales, g_idx } = act4.tensors as Record<string, Stored>;
    const damaged: [string, Stored, string][] = [
      ['qweight', { ...qweight!, dtype: 'F32' }, 'I32 with 2 axes, not empty'],
      ['qweight', { ...qweight!, shape: [8 * 64] }, 'I32 with 2 axes, not empty'],
      ['qweight', { ...qweight!, shape: [0, 64], data: new Uint8Array(0) }, 'I32 with 2 axes, not empty'],
      ['qzeros', { ...qzeros!, dtype: 'U32' }, 'I32 with 2 axes, not empty'],
      ['scales', { ...scales!, dtype: 'I16' }, 'F16 or BF16 or F32 with 2 axes, not empty'],
      ['scales', { ...scales!, shape: [8, 32] }, '[8, 64]'],
      ['g_idx', i32(new Int32Array(63), [63]), '[64]'],
      ['g_idx', { ...g_idx!, dtype: 'F32' }, 'I32 with 1 axis, not empty'],
    ];
    for (const [part, t, expected] of damaged)
      await expectFailure(() => open(but(act4, { [`${L}.${part}`]: t }), configOf(act4)), 'file/format', { tensor: W, expected });
    const wide = await expectFailure(
      () => open(but(act4, { [`${L}.qzeros`]: { ...qzeros!, shape: [2, 16] } }), configOf(act4)),
      'model/config',
    );
    expect(wide.facts).toMatchObject({ tensor: W, expected: '4', found: 8 });
  });

  it('inputs or outputs that are not a multiple of 32', async () => {
    const words = (...shape: number[]): Stored => ({ dtype: 'I32', shape, data: new Uint8Array(4 * shape.reduce((a, b) => a * b)) });
    const scales = (...shape: number[]): Stored => ({ dtype: 'F16', shape, data: new Uint8Array(2 * shape.reduce((a, b) => a * b)) });
    const config = { ...configOf(act4), desc_act: false };
    const outputs = { qweight: words(8, 40), qzeros: words(4, 5), scales: scales(4, 40) };
    await expectFailure(() => open(under(L, outputs), config), 'file/format', { tensor: W, found: 40 });
    const inputs = { qweight: words(10, 32), qzeros: words(5, 4), scales: scales(5, 32) };
    await expectFailure(() => open(under(L, inputs), config), 'file/format', { tensor: W, found: 10 });
  });

  it('a bias stays, if it has the right length', async () => {
    const bias = (n: number): Stored => ({ dtype: 'F16', shape: [n], data: new Uint8Array(2 * n) });
    const model = await open(but(act4, { [`${L}.bias`]: bias(64) }), configOf(act4));
    expect([...model.tensors.keys()].sort()).toEqual([`${L}.bias`, W]);
    expect((await model.read(`${L}.bias`)).shape).toEqual([1, 64]);
    await expectFailure(() => open(but(act4, { [`${L}.bias`]: bias(32) }), configOf(act4)), 'file/format', { tensor: W, expected: '[64]' });
  });

  it('a name that is not there', async () => {
    const model = await open(but(act4, {}), configOf(act4));
    await expectFailure(() => model.read(`${L}.qweight`), 'model/missing', { tensor: `${L}.qweight` });
  });
});

describe('configuration', () => {
  const bad = async (config: Record<string, unknown>, code: 'model/config' | 'model/unsupported', c = act4) =>
    expectFailure(() => open(but(c, {}), { ...configOf(c), ...config }), code);

  it('values that cannot be', async () => {
    for (const config of [
      ...[0, 1, 9, -4, '4', 4.5, null, [4], Number.NaN].map((bits) => ({ bits })),
      ...[0, -2, 1.5, '128', null, Number.POSITIVE_INFINITY].map((group_size) => ({ group_size })),
      { sym: 1 },
      { desc_act: 'yes' },
      { checkpoint_format: 2 },
      { dynamic: [] },
      { dynamic: { a: 1 } },
      { dynamic: { a: { bits: 12 } } },
    ])
      await bad(config, 'model/config');
    await expectFailure(async () => openGptq(await safetensorsOf({}), 'gptq'), 'model/config');
    await expectFailure(async () => openGptq(await safetensorsOf({}), { ...configOf(act4), quant_method: 'awq' }), 'model/config');
    await expectFailure(async () => openAwq(await safetensorsOf({}), { ...configOf(awq), quant_method: 'gptq' }), 'model/config');
  });

  it('variants that are not read, by name', async () => {
    for (const bits of [5, 6, 7]) expect((await bad({ bits }, 'model/unsupported')).facts.found).toBe(bits);
    for (const checkpoint_format of ['marlin', 'bitblas', 'gptq_p'])
      expect((await bad({ checkpoint_format }, 'model/unsupported')).message).toContain(checkpoint_format);
    await bad({ is_marlin_format: true }, 'model/unsupported');
    await bad({ pack_dtype: 'int16' }, 'model/unsupported');
    await bad({ dynamic: { a: { format: 'gptq_v2' } } }, 'model/unsupported');
    for (const version of ['gemv', 'gemv_fast', 'marlin'])
      expect((await bad({ version }, 'model/unsupported', awq)).message).toContain(version);
    await bad({ bits: 3 }, 'model/unsupported', awq);
  });

  it('against the shapes', async () => {
    const bits = await bad({ bits: 8 }, 'model/config');
    expect(bits.facts).toMatchObject({ tensor: W, expected: '8', found: 4 });
    expect((await bad({ group_size: 32 }, 'model/config')).facts.found).toBe('group_size 32');
    expect((await bad({ group_size: -1 }, 'model/config')).facts.tensor).toBe(W);
    await bad({ group_size: 32 }, 'model/config', awq);
    await bad({ group_size: -1 }, 'model/config', awq);
  });

  it('one format under the name of the other', async () => {
    const asAwq = await expectFailure(
      () => open(but(act4, { [`${L}.g_idx`]: undefined }), { ...configOf(awq), group_size: 16 }),
      'file/format',
    );
    expect(asAwq.facts.hint).toContain('quant_method should be gptq');
    const asGptq = await expectFailure(() => open(but(awq, {}), { ...configOf(act4), desc_act: false }), 'file/format');
    expect(asGptq.facts.hint).toContain('quant_method should be awq');
  });

  it('names that other tools use', async () => {
    const gptq = {
      method: 'GPTQ',
      bits: 4,
      group_size: 16,
      desc_act: true,
      sym: false,
      format: 'gptq',
      meta: { quantizer: ['gptqmodel:7'] },
    };
    expect((await open(but(act4, {}), gptq)).format).toBe('gptq');
    const own = await openQuantized(
      await safetensorsOf(but(awq, {})),
      {},
      { quantizeConfig: { w_bit: 4, q_group_size: 16, zero_point: true, version: 'GEMM' } },
    );
    expect(await own.read(W)).toEqual(await (await open(but(awq, {}), configOf(awq))).read(W));
    const old = await openQuantized(
      await safetensorsOf(but(act4, {})),
      {},
      { quantizeConfig: { bits: 4, group_size: 16, desc_act: true, sym: false } },
    );
    expect(old.format).toBe('gptq');
  });

  it('rules of `dynamic` widen what a linear may be, and shapes decide', async () => {
    const two = goldenCase({ format: 'gptq', bits: 2, actOrder: true, version: 'v1' });
    const eight = goldenCase({ format: 'gptq', bits: 8, sym: true });
    const tensors = { ...under('a', act4.tensors), ...under('b', two.tensors), ...under('c', eight.tensors) };
    const dynamic = { '.*b$': { bits: 2 }, '+:c': { bits: 8, group_size: 32, sym: true, desc_act: false }, '-:lm_head': false };
    const model = await open(tensors, { ...configOf(act4), dynamic });
    expect([...model.tensors.values()].map((t) => t.format)).toEqual(['affine 4-bit g16', 'affine 2-bit g16', 'affine 8-bit g32']);
    expect(fnv(encodeFloats('fp16', decode(await model.read('c.weight')).data))).toBe(eight.weight);
    // what a rule changes for some linear is not known of any
    const base = { ...configOf(eight), bits: 4, group_size: 16 };
    const rule = { bits: 2, sym: false, desc_act: true };
    expect((await (await open(under('b', two.tensors), { ...base, dynamic: { b: rule } })).read('b.weight')).kind).toBe('affine');
    for (const kept of [
      { ...rule, sym: true },
      { ...rule, desc_act: false },
    ]) {
      const strict = await open(under('b', two.tensors), { ...base, dynamic: { b: kept } });
      await expectFailure(() => strict.read('b.weight'), 'model/config', { tensor: 'b.weight' });
    }
    const unclear = await expectFailure(
      () => open(tensors, { ...configOf(act4), dynamic: { ...dynamic, d: { group_size: 17 } } }),
      'model/config',
    );
    expect(unclear.message).toContain('several group sizes');
  });
});

describe('what only the data shows', () => {
  it.each(['v1', 'v2'] as const)('a symmetric file of the other version than %s', async (version) => {
    for (const bits of [2, 3, 4, 8]) {
      const c = goldenCase({ format: 'gptq', bits, sym: true });
      const other = version === 'v1' ? 'v2' : 'v1';
      const qzeros = i32(packGptqZeros(new Uint8Array(c.out * 3).fill(2 ** (bits - 1)), bits, c.out, 3, other), [3, (c.out * bits) / 32]);
      const { sym: _, ...unsaid } = configOf(c);
      for (const config of [configOf(c), unsaid]) {
        const labelled = { ...config, checkpoint_format: version === 'v1' ? 'gptq' : 'gptq_v2' };
        const model = await open(but(c, { [`${L}.qzeros`]: qzeros }), labelled);
        const e = await expectFailure(() => model.read(W), 'model/config', { op: 'read', file: 'model.safetensors', tensor: W });
        expect(e.facts.hint).toContain(`open with { version: '${other}' }`);
        const right = openGptq(await safetensorsOf(but(c, { [`${L}.qzeros`]: qzeros })), labelled, { version: other });
        expect(fnv(encodeFloats('fp16', decode(await right.read(W)).data))).toBe(c.weight);
      }
    }
  });

  it('zero points that are not symmetric', async () => {
    const model = await open(but(act4, {}), { ...configOf(act4), sym: true });
    expect((await expectFailure(() => model.read(W), 'model/config')).facts.hint).toContain('set sym to false');
    const other = await open(but(awq, {}), { ...configOf(awq), zero_point: false });
    expect((await expectFailure(() => other.read(W), 'model/config')).facts.hint).toContain('zero_point');
  });

  it('3-bit zero points that a conversion spoiled', async () => {
    const c = goldenCase({ format: 'gptq', bits: 3, sym: true });
    // threes, to each word of which a third of the ones was added: lanes 10 and 21 lose their carries
    const spoiled = new Uint8Array(96).map((_, i) => (i % 32 === 10 ? 0 : i % 32 === 21 ? 2 : 4));
    const turned = new Uint8Array(96).map((_, i) => spoiled[(i % 3) * 32 + Math.floor(i / 3)]!);
    const qzeros = i32(packGptqZeros(turned, 3, 32, 3, 'v2'), [3, 3]);
    const model = await open(but(c, { [`${L}.qzeros`]: qzeros }), { ...configOf(c), checkpoint_format: 'gptq_v2' });
    expect((await expectFailure(() => model.read(W), 'model/config')).facts.hint).toContain('quantize the model again');
  });

  it('more than there is memory for', async () => {
    const physical = await safetensorsOf(but(act4, {}));
    const full = () => Promise.reject(new RangeError('Array buffer allocation failed'));
    const model = openGptq({ ...physical, readBytes: full }, configOf(act4));
    await expectFailure(() => model.read(W), 'file/limit', { file: 'model.safetensors', tensor: W });
  });

  it('groups that are none, or uneven, or act-order that was not announced', async () => {
    const read = async (g_idx: Int32Array, config = configOf(act4)) =>
      (await open(but(act4, { [`${L}.g_idx`]: i32(g_idx, [64]) }), config)).read(W);
    const g = new Int32Array(act4.tensors.g_idx!.data.slice().buffer);
    for (const wrong of [-1, 4, 2 ** 31 - 1]) {
      const e = await expectFailure(() => read(set(g, 7, wrong)), 'file/format', { tensor: W, found: wrong });
      expect(e.message).toContain('g_idx[7]');
    }
    expect((await expectFailure(() => read(set(g, 7, (g[7]! + 1) % 4)), 'file/format')).message).toContain('wrong number of columns');
    expect((await expectFailure(() => read(new Int32Array(64)), 'file/format')).message).toContain('group 0');
    const e = await expectFailure(() => read(g, { ...configOf(act4), desc_act: false }), 'model/config');
    expect(e.facts.hint).toContain('desc_act');
  });

  it('scales that are not finite', async () => {
    const scales = { ...act4.tensors.scales!, data: set(set(act4.tensors.scales!.data, 1, 0x7c), 0, 0) };
    const model = await open(but(act4, { [`${L}.scales`]: scales }), configOf(act4));
    expect((await expectFailure(() => model.read(W), 'file/format', { tensor: W, file: 'model.safetensors' })).message).toContain(
      'not finite',
    );
  });
});

describe('openQuantized', () => {
  const dense: Record<string, Stored> = { 'a.weight': { dtype: 'F32', shape: [1, 1], data: new Uint8Array(4) } };

  it('leaves what is not quantized as it is', async () => {
    const plain = await safetensorsOf(dense);
    expect(await openQuantized(plain, {})).toBe(plain);
    expect(await openQuantized(plain, { quantization_config: null })).toBe(plain);
    const other = { ...plain, format: 'lmq' as const };
    expect(await openQuantized(other, { quantization_config: configOf(awq) })).toBe(other);
  });

  it('names other methods', async () => {
    for (const quant_method of ['fp8', 'mxfp4', 'eetq'])
      await expectFailure(() => open(dense, { quant_method }), 'model/unsupported', {
        op: 'openQuantized',
        file: 'config.json',
        found: quant_method,
      });
    await expectFailure(() => open(dense, {}), 'model/unsupported', { found: 'nothing' });
    await expectFailure(() => open(dense, 'gptq'), 'model/config');
  });

  it('needs the configuration, and quantized weights', async () => {
    await expectFailure(async () => openQuantized(await safetensorsOf(but(act4, {})), {}), 'model/config', {
      expected: 'quantization_config',
    });
    for (const c of [act4, awq])
      await expectFailure(() => open(dense, configOf(c)), 'model/config', { expected: 'tensors named <module>.qweight' });
  });

  it('needs stored bytes', async () => {
    const { readBytes: _, ...wrapped } = await safetensorsOf(but(act4, {}));
    await expectFailure(() => openQuantized(wrapped, { quantization_config: configOf(act4) }), 'argument/value');
  });
});

describe('writing', () => {
  const affine = (out: number, inputs: number, facts: Partial<Affine> = {}): Affine => {
    const bits = facts.bits ?? 4;
    const groupSize = facts.groupSize ?? 16;
    const count = out * Math.ceil(inputs / groupSize);
    return {
      kind: 'affine',
      shape: [out, inputs],
      bits,
      groupSize,
      codes: packRows(new Uint8Array(out * inputs).fill(1), bits, out, inputs),
      scales: { block: [1, groupSize], format: 'fp16', data: new Uint16Array(count).fill(0x3c00) },
      ...facts,
    };
  };
  const zeros = (n: number, at: number) => packStream(set(new Uint8Array(n).fill(3), at, 0), 4);

  it.each<[string, Affine, 'v1' | 'v2']>([
    ['2, 3, 4 or 8 bits', affine(32, 32, { bits: 5 }), 'v2'],
    ['a multiple of 32', affine(32, 48), 'v2'],
    ['a multiple of 32', affine(40, 32), 'v2'],
    ['fp16 or bf16', affine(32, 32, { scales: { block: [1, 16], format: 'fp32', data: new Float32Array(64).fill(1) } }), 'v2'],
    [
      'scales.block [1, group]',
      affine(32, 32, { scales: { block: [2, 16], format: 'fp16', data: new Uint16Array(32).fill(0x3c00) } }),
      'v2',
    ],
    ['at least 1', affine(32, 32, { zeroPoints: zeros(64, 9) }), 'v1'],
    ['16 columns a group', affine(32, 32, { groupIndex: new Int32Array(32) }), 'v2'],
  ])('GPTQ needs %s', async (expected, t, version) => {
    await expectFailure(() => toGptqTensors(W, t, { version }), 'export/unsupported', { op: 'toGptqTensors', tensor: W, expected });
  });

  it.each<[string, Affine]>([
    ['4 bits', affine(8, 32, { bits: 8 })],
    ['a multiple of 8', affine(12, 32)],
    ['a multiple of 20', affine(8, 32, { groupSize: 20 })],
    ['columns grouped in order', affine(8, 32, { groupIndex: Int32Array.from({ length: 32 }, (_, c) => c % 2) })],
  ])('AWQ needs %s', async (expected, t) => {
    await expectFailure(() => toAwqTensors(W, t), 'export/unsupported', { op: 'toAwqTensors', tensor: W, expected });
  });

  it('refuses other layouts and names', async () => {
    const dense: CompressedTensor = { kind: 'dense', shape: [1, 1], format: 'fp32', data: new Float32Array(1) };
    await expectFailure(() => toGptqTensors(W, dense, { version: 'v2' }), 'export/unsupported', { found: 'dense' });
    await expectFailure(() => toAwqTensors(W, dense), 'export/unsupported', { found: 'dense' });
    for (const name of ['a', '.weight', 'a.bias', ''])
      await expectFailure(() => toGptqTensors(name, affine(32, 32), { version: 'v2' }), 'argument/value', { tensor: name });
    await expectFailure(() => toGptqTensors(W, affine(32, 32), { version: 'v3' as 'v2' }), 'argument/option');
  });

  it('what is written with its configuration is read back as it was', async () => {
    const t = affine(32, 64, {
      zeroPoints: zeros(128, 9),
      groupIndex: Int32Array.from({ length: 64 }, (_, c) => c % 4),
      scales: { block: [1, 16], format: 'bf16', data: new Uint16Array(128).map((_, i) => 0x3c00 + i) },
    });
    const config = gptqConfig({ bits: 4, groupSize: 16, sym: false, descAct: true, version: 'v2' });
    const model = await open(await storedOf(toGptqTensors(W, t, { version: 'v2' })), config);
    expect(await model.read(W)).toEqual(t);
    const a = affine(8, 48, { zeroPoints: zeros(24, 5) });
    const other = await open(await storedOf(toAwqTensors(W, a)), awqConfig({ groupSize: 16 }));
    expect(await other.read(W)).toEqual(a);
    expect([...zeroPointValues((await other.read(W)) as Affine, 0, 24)].indexOf(0)).toBe(5);
    expect(awqConfig({ groupSize: -1, modulesToNotConvert: ['gate'] })).toMatchObject({ group_size: -1, modules_to_not_convert: ['gate'] });
    await expectFailure(() => awqConfig({ groupSize: 0 }), 'argument/option');
    await expectFailure(() => gptqConfig({ bits: 5, groupSize: 16, sym: true, descAct: false, version: 'v1' }), 'argument/option');
  });
});
