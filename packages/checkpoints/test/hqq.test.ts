import { decode, packHqq, packRows, packStream, unpackHqq, unpackRows, zeroPointValues } from '@lmq/formats';
import { type Affine, type CompressedTensor, createRng } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toGptqTensors } from '../src/gptq-write.js';
import { hqqConfig, toHqqTensors } from '../src/hqq-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { expectFailure, utf8 } from './_files.js';
import { fnv, type HqqCase, hqqCases } from './_golden-linears.js';
import { type Stored, safetensorsOf, storedOf, under } from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;
const CONFIG = hqqConfig({ bits: 4, groupSize: 64 });

const open = async (tensors: Record<string, Stored>, config: unknown = CONFIG) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });
const bitsOf = (c: HqqCase) => (c.nbits === 1.58 ? 2 : c.nbits);
const titled = hqqCases.map((c) => ({
  ...c,
  title: `${c.nbits} bits [${c.out}, ${c.in}] g${c.group} axis ${c.axis} ${c.dtype}${c.viewAsFloat ? ' as floats' : ''}${c.channelWise ? '' : ' one group'}`,
}));
const caseOf = (facts: Partial<HqqCase>) => hqqCases.find((c) => Object.entries(facts).every(([k, v]) => c[k as keyof HqqCase] === v))!;
/** Facts of how a linear was quantized, which do not tell what it is. */
const FREE = ['optimize', 'round_zero', 'channel_wise', 'group_size', 'nbits', 'view_as_float'];

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of HQQ, and its bytes again', async (c) => {
    const model = await open(under(L, c.tensors));
    expect(model.format).toBe('hqq');
    expect([...model.tensors.keys()]).toEqual([W]);
    const info = model.tensors.get(W)!;
    expect(info.shape).toEqual([c.out, c.in]);
    expect(info.bytes).toBe(Object.values(c.tensors).reduce((n, t) => n + t.data.length, 0));
    const t = await model.read(W);
    expect(fnv(decode(t).data)).toBe(c.weight);
    if (c.axis === 0 || (c.group === 64 && c.in === 48)) {
      expect(t.kind).toBe('dense');
      expect(info.format).toBe(`hqq ${c.nbits}-bit g${c.group} axis ${c.axis}, decoded to fp32`);
      return;
    }
    const group = c.channelWise ? c.group : c.out * c.in;
    expect(t).toMatchObject({ kind: 'affine', bits: bitsOf(c), groupSize: Math.min(group, c.in) });
    expect(info.format).toBe(`affine ${bitsOf(c)}-bit ${group === c.in ? 'per row' : `g${group}`}`);
    if (!c.channelWise) return; // one group fills no words: written as 8 bits only
    const again = await storedOf(toHqqTensors(W, t));
    for (const [name, stored] of Object.entries(under(L, c.tensors))) {
      if (!FREE.some((part) => name === `${L}.${part}`)) expect([name, again[name]!.data]).toEqual([name, stored.data]);
      if (c.nbits !== 1.58 && !c.viewAsFloat)
        expect([name, again[name]!.dtype, again[name]!.shape]).toEqual([name, stored.dtype, stored.shape]);
    }
    expect(Object.keys(again).sort()).toEqual(Object.keys(under(L, c.tensors)).sort());
  });

  it('covers all widths, both axes, and codes as floats', () => {
    const seen = new Set(hqqCases.flatMap((c) => [`${c.nbits}`, `axis ${c.axis}`, `${c.channelWise}`, `${c.viewAsFloat}`, c.dtype]));
    for (const want of ['8', '6', '5', '4', '3', '2', '1.58', '1', 'axis 0', 'axis 1', 'false', 'true', 'float32', 'bfloat16'])
      expect(seen).toContain(want);
  });
});

const four = caseOf({ nbits: 4, out: 16 });
const five = caseOf({ nbits: 5 });
const scalar = (dtype: 'I32' | 'F32' | 'U8', value: number): Stored => ({
  dtype,
  shape: [],
  data: dtype === 'U8' ? Uint8Array.of(value) : new Uint8Array((dtype === 'I32' ? Int32Array : Float32Array).of(value).buffer),
});
const i64 = (...values: number[]): Stored => ({
  dtype: 'I64',
  shape: [values.length],
  data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
});
const f16 = (n: number, value = 0x3c00): Stored => ({
  dtype: 'F16',
  shape: [n],
  data: new Uint8Array(new Uint16Array(n).fill(value).buffer),
});
/** A golden case with some parts replaced; `undefined` takes one away. */
const but = (c: { tensors: Record<string, Stored> }, changes: Record<string, Stored | undefined>) =>
  under(L, Object.fromEntries(Object.entries({ ...c.tensors, ...changes }).filter((e): e is [string, Stored] => e[1] !== undefined)));

describe('parts', () => {
  it.each(['scale', 'zero', 'shape', 'nbits', 'axis'])('%s missing', async (part) => {
    await expectFailure(() => open(but(four, { [part]: undefined })), 'file/format', {
      op: 'openHqq',
      file: 'model.safetensors',
      tensor: W,
      expected: `${L}.${part}`,
    });
  });

  it('that only some versions write may be missing', async () => {
    const few = but(
      four,
      Object.fromEntries(['offload_meta', 'packing', 'channel_wise', 'optimize', 'view_as_float'].map((p) => [p, undefined])),
    );
    expect(await (await open(few)).read(W)).toEqual(await (await open(but(four, {}))).read(W));
  });

  it('left over', async () => {
    await expectFailure(() => open({ ...but(four, {}), 'x.quant_zero': scalar('U8', 0) }), 'file/format', { tensor: 'x.quant_zero' });
    await expectFailure(() => open(but(four, { weight: f16(1) })), 'file/format', { tensor: W });
    // names that other modules may have
    expect([...(await open({ ...but(four, {}), 'norm.scale': f16(4) })).tensors.keys()].sort()).toEqual([W, 'norm.scale']);
  });

  it('of the wrong kind or size', async () => {
    const wrong: [Record<string, Stored>, string][] = [
      [{ shape: i64(16) }, 'two numbers, 1 … 2^32 - 1'],
      [{ shape: i64(16, -64) }, 'two numbers, 1 … 2^32 - 1'],
      [{ shape: i64(2 ** 40, 64) }, 'two numbers, 1 … 2^32 - 1'],
      [{ shape: i64(16, 96) }, '768 bytes'],
      [{ shape: i64(2 ** 31, 2 ** 31) }, `${2 ** 61} bytes`],
      [{ nbits: scalar('I32', 7) }, '1, 1.58, 2, 3, 4, 5, 6 or 8'],
      [{ nbits: scalar('F32', Number.NaN) }, '1, 1.58, 2, 3, 4, 5, 6 or 8'],
      [{ nbits: scalar('I32', 8) }, '1024 bytes'],
      [{ nbits: { dtype: 'I32', shape: [1], data: new Uint8Array(4) } }, 'U8 or I32 or F32 with 0 axes, not empty'],
      [{ axis: scalar('I32', 2) }, '0 or 1'],
      [{ group_size: scalar('I32', 0) }, 'a divisor of 16 * 64'],
      [{ group_size: scalar('I32', 33) }, 'a divisor of 16 * 64'],
      [{ group_size: scalar('I32', 16) }, '[64]'],
      [{ scale: f16(31) }, '[32]'],
      [{ zero: { ...four.tensors.zero!, dtype: 'I16' } }, 'F16 or BF16 or F32 with 2 axes, not empty'],
      [{ W_q: { ...four.tensors.W_q!, dtype: 'I8' } }, 'U8 or F16 or BF16 or F32 with 2 axes, not empty'],
    ];
    for (const [changes, expected] of wrong)
      await expectFailure(() => open(but(four, changes)), 'file/format', { op: 'openHqq', tensor: W, expected });
    // 33 groups do not fill words of two
    await expectFailure(() => open(but(four, { shape: i64(1, 33 * 32) })), 'file/format', { expected: `${(33 / 2) * 32} bytes` });
  });

  it('that data damages', async () => {
    const codes = await open(but(five, { W_q: { ...five.tensors.W_q!, data: five.tensors.W_q!.data.map((b, i) => (i === 9 ? 32 : b)) } }));
    await expectFailure(() => codes.read(W), 'file/format', { op: 'read', tensor: W, expected: '0 … 31' });
    for (const part of ['scale', 'zero']) {
      const model = await open(but(four, { [part]: f16(32, 0x7e00) }));
      await expectFailure(() => model.read(W), 'file/format', { op: 'read', tensor: W });
    }
  });

  it('of quantized scales, which HQQ has given up', async () => {
    const model = await open(but(four, { quant_scale: scalar('U8', 1) }));
    await expectFailure(() => model.read(W), 'model/unsupported', { found: 'quant_scale' });
    await expectFailure(() => open(but(four, { scale: undefined, zero: undefined, zero_scale: f16(64) })), 'model/unsupported', {
      found: 'zero_scale',
    });
  });
});

describe('configuration', () => {
  it('of another method, without HQQ weights, or absent', async () => {
    await expectFailure(
      async () => (await import('../src/hqq.js')).openHqq(await safetensorsOf(but(four, {})), { quant_method: 'gptq' }),
      'model/config',
    );
    await expectFailure(() => open({ 'a.weight': f16(1) }), 'model/config', { expected: 'tensors named <module>.W_q' });
    await expectFailure(async () => openQuantized(await safetensorsOf(but(four, {})), {}), 'model/config');
  });

  it('is what Hugging Face writes', () => {
    expect(hqqConfig({ bits: 3, groupSize: 128, skipModules: ['lm_head', 'self_attn.q_proj'] })).toEqual({
      quant_method: 'hqq',
      quant_config: {
        weight_quant_params: {
          nbits: 3,
          channel_wise: true,
          group_size: 128,
          optimize: true,
          round_zero: false,
          axis: 1,
          view_as_float: false,
        },
        scale_quant_params: null,
        zero_quant_params: null,
        offload_meta: false,
      },
      skip_modules: ['lm_head', 'self_attn.q_proj'],
    });
    expect(() => hqqConfig({ bits: 7, groupSize: 64 })).toThrow(/bits/);
    expect(() => hqqConfig({ bits: 4, groupSize: 0 })).toThrow(/groupSize/);
  });
});

describe('packing', () => {
  it('is undone, for all widths', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 3, 4, 5, 6, 8),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 9 }),
        (bits, words, cols) => {
          const rows = bits === 3 ? words * 7 : words * 8;
          const rng = createRng(rows * cols);
          const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(2 ** bits));
          expect(unpackHqq(packHqq(codes, bits, rows, cols), bits, rows, cols)).toEqual(codes);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('refuses what does not fit', () => {
    expect(() => packHqq(new Uint8Array(6), 4, 3, 2)).toThrow(/whole words/);
    expect(() => packHqq(new Uint8Array(5), 4, 2, 2)).toThrow(/do not fill/);
    expect(() => packHqq(new Uint8Array(4), 7, 2, 2)).toThrow(/bits/);
    expect(() => packHqq(Uint8Array.of(0, 0, 16, 0), 4, 2, 2)).toThrow(/more than 4 bits/);
    expect(() => unpackHqq(new Uint8Array(3), 4, 2, 2)).toThrow(/words/);
    expect(() => unpackHqq(Uint8Array.of(64), 6, 1, 1)).toThrow(/more than 6 bits/);
  });
});

describe('writing', () => {
  const affine = (facts: Partial<Affine> = {}): Affine => {
    const { bits = 4, shape = [8, 64], groupSize = 32 } = facts;
    const rng = createRng(3);
    const count = shape[0] * Math.ceil(shape[1] / groupSize);
    return {
      kind: 'affine',
      shape,
      bits,
      groupSize,
      codes: packRows(
        Uint8Array.from({ length: shape[0] * shape[1] }, () => rng.below(2 ** bits)),
        bits,
        ...shape,
      ),
      scales: { block: [1, groupSize], format: 'fp16', data: Uint16Array.from({ length: count }, () => 0x2000 + rng.below(0x1000)) },
      ...facts,
    };
  };
  const roundTrip = async (t: Affine) => (await open(await storedOf(toHqqTensors(W, t)))).read(W);

  it.each([1, 2, 3, 4, 5, 6, 8])('%i bits, symmetric and with integers as zero points: the same values', async (bits) => {
    const zeros = packStream(
      Uint8Array.from({ length: 16 }, (_, i) => i % 2 ** bits),
      bits,
    );
    for (const t of [affine({ bits }), affine({ bits, zeroPoints: zeros })]) {
      const read = (await roundTrip(t)) as Affine;
      expect(decode(read).data).toEqual(decode(t).data);
      expect(unpackRows(read.codes, bits, 8, 64)).toEqual(unpackRows(t.codes, bits, 8, 64));
      expect(zeroPointValues(read, 0, 16)).toEqual(zeroPointValues(t, 0, 16)); // floats that are integers
    }
  });

  it('groups of whole rows', async () => {
    const t = affine({ groupSize: 64, scales: { block: [4, 64], format: 'bf16', data: Uint16Array.of(0x3f80, 0x3f81) } });
    expect(await roundTrip(t)).toMatchObject({ scales: t.scales, groupSize: 64 });
    expect(decode(await roundTrip(t)).data).toEqual(decode(t).data);
  });

  it('HQQ with integers as zero points becomes GPTQ; with others it is refused', async () => {
    const rounded = affine({ shape: [32, 64], zeroPoints: { format: 'fp16', data: new Uint16Array(64).fill(0x4700) } }); // 7
    expect(await storedOf(toGptqTensors(W, rounded, { version: 'v2' }))).toEqual(
      await storedOf(toGptqTensors(W, { ...rounded, zeroPoints: packStream(new Uint8Array(64).fill(7), 4) }, { version: 'v2' })),
    );
    const between = affine({ shape: [32, 64], zeroPoints: { format: 'fp16', data: new Uint16Array(64).fill(0x4701) } });
    await expectFailure(() => toGptqTensors(W, between, { version: 'v2' }), 'export/unsupported', { expected: 'integers 0 … 15' });
  });

  it.each<[string, CompressedTensor]>([
    ['affine', { kind: 'dense', shape: [1, 1], format: 'fp32', data: Float32Array.of(1) }],
    ['1, 2, 3, 4, 5, 6, 8 bits', affine({ bits: 7 })],
    ['columns grouped in order', affine({ groupIndex: Int32Array.from({ length: 64 }, (_, c) => c % 2) })],
    ['fp32, fp16 or bf16', affine({ scales: { block: [1, 32], format: 'e8m0', data: new Uint8Array(16).fill(127) } })],
    ['groups that rows consist of, or whole rows', affine({ groupSize: 48 })],
    ['groups that rows consist of, or whole rows', affine({ scales: { block: [2, 32], format: 'fp16', data: new Uint16Array(8) } })],
    ['a multiple of 8 groups', affine({ bits: 1, groupSize: 64, shape: [7, 64] })],
    ['fp16', affine({ zeroPoints: { format: 'fp32', data: new Float32Array(16) } })],
  ])('refused: needs %s', async (expected, t) => {
    await expectFailure(() => toHqqTensors(W, t), 'export/unsupported', { op: 'toHqqTensors', tensor: W, expected });
  });

  it('names', async () => {
    await expectFailure(() => toHqqTensors('a.bias', affine()), 'argument/value');
    expect(utf8('torch.float16')).toEqual((await storedOf(toHqqTensors(W, affine())))[`${L}.compute_dtype`]!.data);
  });
});
