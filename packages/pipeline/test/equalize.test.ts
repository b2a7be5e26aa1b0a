// Stages that equalize: the model stays the same, what they are for gets better, and an interrupted run goes on.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wasmBackend } from '@lmq/kernels-wasm';
import { type Architecture, loadModel, parseHfConfig } from '@lmq/model';
import type { CompressedTensor } from '@lmq/tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { CASES, familyCheckpoint, readCase } from '../../model/test/_families.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import type { EqualizeReport, EqualizeStage } from '../src/api.js';
import { type EqualizeBlocksOpts, equalizeBlocks } from '../src/equalize-blocks.js';
import { overlay } from '../src/overlay.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

type Source = Pick<EqualizeBlocksOpts, 'checkpoint' | 'architecture' | 'backend'>;

const backend = await wasmBackend();
const dir = mkdtempSync(join(tmpdir(), 'lmq-equalize-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function equalize(source: Source, stages: object[], calibration: ArrayLike<number>[]) {
  const recipe = parseRecipe({ stages });
  const stage = recipe.equalize![0] as EqualizeStage;
  const weights = new Map<string, CompressedTensor>();
  const reports: EqualizeReport[] = [];
  for await (const block of equalizeBlocks({ ...source, recipe, stage, calibration })) {
    for (const [name, t] of block.weights) weights.set(name, t);
    reports.push(block.report);
  }
  return { checkpoint: overlay(source.checkpoint, weights), weights, reports, rest: { ...recipe, equalize: undefined } };
}

async function logits({ checkpoint, architecture }: Pick<Source, 'checkpoint' | 'architecture'>, ids: ArrayLike<number>) {
  const model = await loadModel({ checkpoint, architecture, backend });
  const s = backend.scope();
  try {
    return (await s.read(await model.forward(s, ids))).data;
  } finally {
    s.dispose();
    model.dispose();
  }
}

const largest = (a: ArrayLike<number>) => Array.from(a).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
const distance = (a: Float32Array, b: ArrayLike<number>) => largest(a.map((v, i) => v - b[i]!));
const RTN = { method: 'rtn', bits: 4, groupSize: 16, preset: 'awq' };

describe('folding keeps the function of every family', () => {
  const stacked = (a: Architecture) => a.sites.some((s) => s.slice);
  for (const name of CASES) {
    const golden = readCase(name);
    const architecture = parseHfConfig(golden.config, (n) => Object.hasOwn(golden.tensors, n));
    const source = { checkpoint: familyCheckpoint(golden), architecture, backend };
    const rtn = { ...RTN, groupSize: -1 };
    for (const stage of [
      { method: 'awq', clip: false },
      { method: 'smoothquant', alpha: 0.3 },
    ]) {
      it(`${name}, ${stage.method}`, async () => {
        if (stacked(architecture)) {
          await expect(equalize(source, [stage, rtn], [golden.ids])).rejects.toThrow(/already quantized, or stacked/);
          return;
        }
        const { checkpoint, weights, reports } = await equalize(source, [stage, rtn], [golden.ids]);
        expect(distance(await logits({ checkpoint, architecture }, golden.ids), golden.logits)).toBeLessThan(1e-3);
        for (const t of weights.values()) expect(t).toMatchObject({ kind: 'dense', format: 'fp32' });
        const pairs = reports.flatMap((r) => r.pairs);
        if (stage.method === 'smoothquant') expect(pairs).toHaveLength(2 * architecture.layers);
        const shared = architecture.heads !== architecture.kvHeads;
        const o = pairs.filter((p) => p.to[0]!.endsWith('o_proj')).length;
        const why = reports.flatMap((r) => r.skipped).filter((s) => s.name.endsWith('o_proj')).length;
        if (stage.method === 'awq') expect([o, why]).toEqual(shared ? [0, architecture.layers] : [architecture.layers, 0]);
      });
    }
  }
});

describe('lmq-nano', async () => {
  const nano = await openNano();
  const few = [windows[0]!.slice(0, 256)];
  const q3 = { method: 'rtn', bits: 3, groupSize: 128, preset: 'awq' };

  it('AWQ, then GPTQ; stopped in each stage and started again: the same as at once, and an estimate that holds', async () => {
    const model = await openModel('lmq-nano');
    const gptq = { method: 'gptq', bits: 3, groupSize: 128 };
    const overrides = [{ match: '*', skip: true }, ...['*v_proj', '*down_proj'].map((match) => ({ match, skip: false }))];
    const recipe = parseRecipe({ stages: [{ method: 'smoothquant' }, { method: 'awq', clip: false }, gptq], overrides });
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
    const short = [windows[0]!.slice(0, 48)];
    const opts = { backend, recipe, calibration: short };
    const at = (name: string) => join(dir, name);
    const whole = await quantizeModel(model, { ...opts, output: at('whole') });
    expect(whole.equalized).toHaveLength(2 * nano.architecture.layers);
    for (const phase of ['search scales in block 2', 'calibrate block 1']) {
      const stop = new AbortController();
      const onProgress = (e: { phase: string }) => void (e.phase === phase && stop.abort(new Error('stopped')));
      await expect(quantizeModel(model, { ...opts, output: at('parts'), signal: stop.signal, onProgress })).rejects.toThrow('stopped');
    }
    const parts = await quantizeModel(model, { ...opts, output: at('parts') });
    expect(parts.resumedBlocks).toBe(4 + 4 + 1);
    const [a, b] = [await openModel(at('whole')), await openModel(at('parts'))];
    for (const name of a.checkpoint.tensors.keys()) expect(await b.checkpoint.read(name)).toEqual(await a.checkpoint.read(name));
    const norm = a.checkpoint.tensors.get('model.layers.0.input_layernorm.weight')!;
    expect(norm).toMatchObject({ shape: [256], format: 'fp32' });
    expect(a.checkpoint.tensors.get('model.layers.0.self_attn.q_proj.weight')!.format).toBe('fp32'); // scaled with v, not quantized
    const estimate = await estimateModel(model, recipe, backend, { calibration: short });
    expect(estimate.outputBytes).toBe(whole.bytes);
    expect(estimate.steps.map((s) => s.step)).toEqual(expect.arrayContaining(['find scales (smoothquant)', 'search scales (awq)']));
    for (const m of [a, b, model]) await m.close();
  });

  it('rescale: what nothing can be divided for keeps its factors, through GPTQ, into a folder and back', async () => {
    const model = await openModel('lmq-nano');
    const overrides = [
      { match: '*', skip: true },
      { match: '*o_proj', skip: false },
    ];
    const short = [windows[0]!.slice(0, 64)];
    const before = await logits(model, short[0]!);
    const reports = [];
    const off: number[] = [];
    for (const [name, awq] of [
      ['plain', []],
      ['rescaled', [{ method: 'awq', rescale: true, clip: false }]],
    ] as const) {
      const recipe = parseRecipe({ stages: [...awq, { method: 'gptq', bits: 3, groupSize: 128 }], overrides });
      const output = join(dir, `o-${name}`);
      const report = await quantizeModel(model, { backend, recipe, calibration: short, output });
      reports.push(report);
      expect((await estimateModel(model, recipe, backend, { calibration: short })).outputBytes).toBe(report.bytes);
      const back = await openModel(output);
      off.push(distance(await logits({ ...back, architecture: model.architecture }, short[0]!), before));
      const t = await back.checkpoint.read('model.layers.0.self_attn.o_proj.weight');
      await back.close();
      if (name === 'plain') continue;
      const { skipped, pairs } = report.equalized![0]!;
      expect(skipped).toEqual([]);
      expect(pairs).toMatchObject([{ from: null, to: ['model.layers.0.self_attn.o_proj'] }]);
      expect(pairs[0]!.error).toBeLessThanOrEqual(pairs[0]!.plainError!);
      expect(t).toMatchObject({ kind: 'rescaled', base: { kind: 'affine', bits: 3 } });
    }
    expect(off[1]!).toBeLessThan(1.25 * off[0]!);
    const [plain, rescaled] = reports;
    expect(rescaled!.bitsPerWeight).toBeCloseTo(plain!.bitsPerWeight + 32 / 256, 6); // a float32 for each of 256 columns of 256 rows
    for (const [i, l] of rescaled!.layers.entries()) expect(l.error).toBeLessThan(1.25 * plain!.layers[i]!.error); // in the same units
    const refused = parseRecipe({ stages: [{ method: 'awq', rescale: true }, q3], export: 'awq' });
    await expect(equalizeBlocks({ ...nano, recipe: refused, stage: refused.equalize![0]!, calibration: few }).next()).rejects.toMatchObject(
      { code: 'export/unsupported' },
    );
    await model.close();
  });

  it('experts: the router reads the scaled norm too, and each expert has a pair of its own', async () => {
    const moe = await openModel('lmq-nano-moe');
    const source = { ...moe, backend };
    const ids = windows[0]!.slice(0, 64);
    const { checkpoint, reports } = await equalize(
      source,
      [
        { method: 'awq', clip: false },
        { ...RTN, groupSize: 64 },
      ],
      [ids],
    );
    const before = await logits(source, ids);
    expect(distance(await logits({ ...source, checkpoint }, ids), before)).toBeLessThan(2e-3);
    const experts = moe.architecture.moe!.experts;
    const [first] = reports;
    expect(first!.pairs.find((p) => p.to.some((n) => n.endsWith('gate')))!.to).toHaveLength(1 + 2 * experts);
    const down = first!.pairs.filter((p) => p.to[0]!.endsWith('w2')).length;
    const starved = first!.skipped.filter((s) => /too few calibration tokens/.test(s.why)).length;
    expect(down + starved).toBe(experts);
    await moe.close();
  });

  it('refuses what makes no sense, before any work', async () => {
    const refuse = (stages: unknown[], message: RegExp) => expect(() => parseRecipe({ stages })).toThrow(message);
    refuse([{ method: 'awq' }], /awq prepares weights for a stage that quantizes/);
    refuse([{ method: 'awq' }, { method: 'ggml' }], /prepares weights/);
    refuse([{ method: 'rtn' }, { method: 'awq' }], /only one stage can quantize, and it comes last/);
    refuse([{ method: 'awq', alpha: 1 }, q3], /unknown field stages\[0\].alpha/);
    refuse([{ method: 'smoothquant', alpha: 2 }, q3], /alpha is out of range/);
    refuse([{ method: 'awq', clip: 'mse' }, q3], /clip is not true or false/);
    const trits = parseRecipe({ stages: [{ method: 'awq' }, { method: 'rtn', trits: true }] });
    const run = (recipe: typeof trits, stage = recipe.equalize![0]!) => equalizeBlocks({ ...nano, recipe, stage, calibration: few }).next();
    await expect(run(trits)).rejects.toThrow(/trits/);
    const nothing = parseRecipe({
      stages: [{ method: 'smoothquant' }, q3],
      overrides: [
        { match: '*', skip: true },
        { match: '*o_proj', skip: false },
      ],
    });
    await expect(run(nothing)).rejects.toThrow(/nothing for smoothquant to scale.*o_proj/);
    const fine = parseRecipe({ stages: [{ method: 'awq' }, q3] });
    await expect(equalizeBlocks({ ...nano, recipe: fine, stage: fine.equalize![0]! }).next()).rejects.toMatchObject({
      code: 'calibration/short',
    });
    await expect(quantizeBlocks({ ...nano, recipe: fine, calibration: few }).next()).rejects.toThrow(/equalized first/);
  });
});
