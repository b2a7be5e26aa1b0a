import { decode, encodeFloats } from '@lmq/formats';
import type { Affine } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { autoRoundConfig, toAutoRoundTensors } from '../src/auto-round-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { expectFailure } from './_files.js';
import { type AutoRoundCase, autoRoundCases, fnv } from './_golden-linears.js';
import { type Stored, safetensorsOf, storedOf, under } from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;

const packingOf = (c: AutoRoundCase) => {
  const found = { 'auto_round:auto_gptq': 'gptq-v1', 'auto_round:auto_awq': 'awq' } as const;
  return found[c.packing as keyof typeof found] ?? 'gptq-v2';
};
const configOf = (c: AutoRoundCase): Record<string, unknown> => ({
  ...autoRoundConfig({ packing: packingOf(c), bits: c.bits, groupSize: c.group, sym: c.sym }),
  packing_format: c.packing,
});
const open = async (tensors: Record<string, Stored>, config: unknown) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });
const titled = autoRoundCases.map((c) => ({
  ...c,
  title: `${c.packing} ${c.bits} bits [${c.out}, ${c.in}] g${c.group}${c.sym ? ' sym' : ''}`,
}));
const caseOf = (facts: Partial<AutoRoundCase>) =>
  autoRoundCases.find((c) => Object.entries(facts).every(([key, value]) => c[key as keyof AutoRoundCase] === value))!;

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of AutoRound, and its bytes again', async (c) => {
    const model = await open(under(L, c.tensors), configOf(c));
    expect(model.format).toBe('auto-round');
    expect(model.tensors.get(W)).toMatchObject({ shape: [c.out, c.in] });
    const t = (await model.read(W)) as Affine;
    expect(t.bits).toBe(c.bits);
    expect(t.zeroPoints === undefined).toBe(c.sym);
    const unsigned = decode(t).data.map((x) => x + 0); // they were decoded by multiplication with 1 and 0, whose sums have no negative zero
    expect(fnv(encodeFloats('fp16', unsigned))).toBe(c.weight);
    const again = await storedOf(toAutoRoundTensors(W, t, { packing: packingOf(c) }));
    if (c.packing === 'auto_round') delete again[`${L}.g_idx`]; // written for GPTQModel
    expect(again).toEqual(under(L, c.tensors));
  });

  it('covers all packings, widths and grids', () => {
    const seen = autoRoundCases.map((c) => `${packingOf(c)} ${c.bits} ${c.sym}`);
    for (const bits of [2, 3, 4, 8])
      for (const sym of [true, false]) for (const v of ['v1', 'v2']) expect(seen).toContain(`gptq-${v} ${bits} ${sym}`);
    for (const sym of [true, false]) expect(seen).toContain(`awq 4 ${sym}`);
  });
});

const v1 = caseOf({ packing: 'auto_round:auto_gptq', bits: 4, sym: false });
const sym = caseOf({ packing: 'auto_round:auto_gptq', bits: 4, sym: true });
const three = caseOf({ packing: 'auto_round:auto_gptq', bits: 3, sym: true });
const awq = caseOf({ packing: 'auto_round:auto_awq', sym: false });
const row = caseOf({ packing: 'auto_round:auto_awq', sym: true });

describe('extra_config', () => {
  it('lets layers differ: names and expressions widen, shapes decide', async () => {
    const tensors = { ...under('a', v1.tensors), ...under('b', three.tensors) };
    await expectFailure(() => open(tensors, configOf(v1)), 'model/config', { tensor: 'b.weight', expected: '4', found: 3 });
    for (const name of ['b', '.*b$', '(b+)+$']) {
      const model = await open(tensors, { ...configOf(v1), extra_config: { [name]: { bits: 3, sym: true }, lm_head: { bits: 16 } } });
      expect(((await model.read('b.weight')) as Affine).bits).toBe(3);
      expect(((await model.read('a.weight')) as Affine).bits).toBe(4);
    }
    const groups = await open(
      { ...under('a', awq.tensors), ...under('b', row.tensors) },
      { ...configOf(awq), extra_config: { b: { group_size: 64 } } },
    );
    expect(((await groups.read('b.weight')) as Affine).groupSize).toBe(64);
  });

  it('of the wrong kind', async () => {
    await expectFailure(() => open(under(L, v1.tensors), { ...configOf(v1), extra_config: [] }), 'model/config');
    await expectFailure(() => open(under(L, v1.tensors), { ...configOf(v1), extra_config: { a: 4 } }), 'model/config', { found: 'a' });
    await expectFailure(() => open(under(L, v1.tensors), { ...configOf(v1), extra_config: { a: { bits: '4' } } }), 'model/config');
    await expectFailure(
      () => open(under(L, v1.tensors), { ...configOf(v1), extra_config: { a: { data_type: 'mx_fp' } } }),
      'model/unsupported',
    );
  });
});

describe('configuration', () => {
  it.each<[string, Record<string, unknown>, string, unknown]>([
    ['another packing', { packing_format: 'auto_round:llm_compressor' }, 'model/unsupported', 'auto_round:llm_compressor'],
    ['weights that are no integers', { data_type: 'mx_fp4' }, 'model/unsupported', 'mx_fp4'],
    ['quantized activations', { act_bits: 8 }, 'model/unsupported', 8],
    ['rotated weights', { rotation_config: { name: 'hadamard' } }, 'model/unsupported', 'rotation_config'],
    ['5 bits', { bits: 5 }, 'model/unsupported', 5],
    ['no bits', { bits: null }, 'model/config', 'nothing'],
    ['a group of no columns', { group_size: 0 }, 'model/config', 0],
  ])('with %s', async (_, changes, code, found) => {
    await expectFailure(() => open(under(L, v1.tensors), { ...configOf(v1), ...changes }), code as 'model/config', {
      op: 'openAutoRound',
      file: 'config.json',
      found,
    });
  });

  it('of an AWQ that has not 4 bits', async () => {
    await expectFailure(() => open(under(L, awq.tensors), { ...configOf(awq), bits: 8 }), 'model/unsupported', { expected: 4 });
  });

  it('without a packing, or of the first versions, is version 1; the zero points of symmetric files tell others', async () => {
    const { packing_format: _, ...bare } = configOf(sym);
    const want = await (await open(under(L, sym.tensors), configOf(sym))).read(W);
    expect(await (await open(under(L, sym.tensors), { ...bare, quant_method: 'intel/auto-round' })).read(W)).toEqual(want);
    const two = caseOf({ packing: 'auto_round:gptqmodel', bits: 4, sym: true });
    const model = await open(under(L, two.tensors), bare);
    await expectFailure(() => model.read(W), 'model/config', { tensor: W });
  });

  it('goes with tensors without act-order', async () => {
    const t = (await (await open(under(L, v1.tensors), configOf(v1))).read(W)) as Affine;
    const mixed = { ...t, groupIndex: Int32Array.from({ length: 64 }, (_, c) => c % 2) };
    for (const packing of ['gptq-v1', 'gptq-v2', 'awq'] as const)
      await expectFailure(() => toAutoRoundTensors(W, mixed, { packing }), 'export/unsupported', { expected: 'columns grouped in order' });
    await expectFailure(() => toAutoRoundTensors(W, t, { packing: 'gptq' as 'awq' }), 'argument/option');
  });

  it('is written with its exceptions', () => {
    const config = autoRoundConfig({
      packing: 'gptq-v1',
      bits: 4,
      groupSize: 128,
      sym: true,
      layers: new Map([
        ['lm_head', null],
        ['model.layers.0.mlp.up_proj', { bits: 8, groupSize: -1 }],
      ]),
    });
    expect(config).toEqual({
      quant_method: 'auto-round',
      packing_format: 'auto_round:auto_gptq',
      data_type: 'int',
      bits: 4,
      group_size: 128,
      sym: true,
      extra_config: { lm_head: { bits: 16 }, 'model.layers.0.mlp.up_proj': { bits: 8, group_size: -1 } },
    });
    const opts = { packing: 'awq', bits: 4, groupSize: 128, sym: true } as const;
    expect(() => autoRoundConfig({ ...opts, bits: 8 })).toThrow(/bits/);
    expect(() => autoRoundConfig({ ...opts, groupSize: 0 })).toThrow(/groupSize/);
    expect(() => autoRoundConfig({ ...opts, layers: new Map([['mlp.*', null]]) })).toThrow(/name of a module/);
  });
});
