// Fisher information: what it sums, that a file and an interrupted run give the same, and that SqueezeLLM counts its weights by it.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, dense } from '@lmq/formats';
import { squeezellm, squeezellmLinear } from '@lmq/quant-core';
import { createRng, isLmqError, type Linear, matrix, type ProgressEvent } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openFisherFile, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { collectFisher } from '../src/fisher.js';
import { fisherSites } from '../src/fisher-blocks.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { quantizeLinear } from '../src/quantize-linear.js';
import { parseRecipe, stageFor } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-fisher-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const path = (name: string) => join(dir, name);
const short = windows.slice(0, 3).map((w) => w.slice(0, 48));
const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));

let nano: Awaited<ReturnType<typeof openNano>>;
let experts: Awaited<ReturnType<typeof openModel>>;
beforeAll(async () => {
  nano = await openNano();
  experts = await openModel('lmq-nano-moe');
});
afterAll(() => experts.close());

/** Σ of everything. */
const total = (data: Float32Array) => data.reduce((sum, v) => sum + v, 0);

describe('fisherBlocks', () => {
  it.each(['lmq-nano', 'lmq-nano-moe'] as const)('of one window are the squares of PyTorch’s gradients: %s', async (name) => {
    const golden = JSON.parse(readFileSync(new URL('../../model/test/golden/gradients.json', import.meta.url), 'utf8'));
    const model = name === 'lmq-nano' ? nano : experts;
    const fisher = await collectFisher({ ...model, backend: nano.backend, calibration: [windows[0]!.slice(0, 256)] });
    const sites = fisherSites(model.architecture);
    expect(sites.some((s) => s.name === 'lm_head')).toBe(name === 'lmq-nano-moe'); // the other's is the embedding matrix
    for (const { name: linear, tensor } of sites) {
      const squares = golden[name].gradients[tensor][0];
      const { data } = await fisher.of(linear)!.read();
      expect(Math.abs(total(data) - squares), linear).toBeLessThanOrEqual(1e-5 * squares);
    }
  });

  it('adds up over windows, and collects what is asked for alone', async () => {
    const sites = nano.architecture.sites.filter((s) => s.name.endsWith('2.mlp.down_proj'));
    const of = async (calibration: number[][]) => {
      const fisher = await collectFisher({ ...nano, calibration, sites });
      expect(fisher.of('model.layers.3.mlp.down_proj')).toBeUndefined();
      return (await fisher.of(sites[0]!.name)!.read()).data;
    };
    const [first, second, both] = [await of([short[0]!]), await of([short[1]!]), await of(short.slice(0, 2))];
    const largest = (data: Float32Array) => data.reduce((max, v) => Math.max(max, v), 0);
    const off = largest(both!.map((v, i) => Math.abs(v - first![i]! - second![i]!)));
    expect(off).toBeLessThanOrEqual(2 ** -23 * largest(both!));
  });

  it('refuses what has no gradient before any work', async () => {
    const lines: ProgressEvent[] = [];
    const opts = { ...nano, onProgress: (e: ProgressEvent) => lines.push(e) };
    expect(await problem(collectFisher({ ...opts, calibration: [short[0]!, [7]] }))).toMatch(/calibration\/short.*window 1/);
    expect(await problem(collectFisher({ ...opts, calibration: [] }))).toMatch(/calibration\/short/);
    const tensor = 'model.layers.1.self_attn.o_proj.weight';
    const rounding = { ...nano.checkpoint, inputs: new Map([[tensor, { kind: 'llm-int8', threshold: 6 } as const]]) };
    expect(await problem(collectFisher({ ...opts, checkpoint: rounding, calibration: short }))).toContain(tensor);
    expect(lines).toEqual([]);
  });
});

describe('files', () => {
  it('hold what was collected, of all linears, and belong to one model', async () => {
    const file = path('fisher.safetensors');
    const report = await calibrateModel(nano, { backend: nano.backend, calibration: short, output: file, format: 'fisher' });
    expect(report).toMatchObject({
      inputs: 28,
      tokens: 3 * 48,
      unreached: [],
      starved: [],
      resumedBlocks: 0,
      bytes: readFileSync(file).length,
    });
    expect(readdirSync(dir)).toEqual(['fisher.safetensors']);
    const saved = await openFisherFile(file, nano);
    expect(saved).toMatchObject({ sequences: 3, tokens: 3 * 48 });
    const collected = await collectFisher({ ...nano, calibration: short });
    for (const { name } of fisherSites(nano.architecture))
      expect(
        Buffer.from((await saved.of(name)!.read()).data.buffer).equals(Buffer.from((await collected.of(name)!.read()).data.buffer)),
      ).toBe(true);
    await saved.close();
    expect(await problem(openFisherFile(file, experts))).toContain('another architecture');
    expect(await problem(openStatisticsFile(file, nano))).toContain('no statistics');
    const minTokens = { backend: nano.backend, calibration: short, output: path('x'), format: 'fisher' as const, minTokens: 3 };
    expect(await problem(calibrateModel(nano, minTokens))).toContain('argument/option');
  });

  it('name the linears that no token reached, which then count their weights alike', async () => {
    const file = path('experts.safetensors');
    const calibration = [windows[0]!.slice(0, 12)];
    const { unreached, inputs } = await calibrateModel(experts, { backend: nano.backend, calibration, output: file, format: 'fisher' });
    expect(inputs).toBe(4 * (4 + 8 * 3) + 1);
    expect(unreached.length).toBeGreaterThan(0);
    expect(unreached.every((name) => name.includes('experts'))).toBe(true);
    const fisher = await openFisherFile(file, experts);
    const overrides = [{ match: 're:.*(layers\\.[1-9]|attn)', skip: true }];
    const recipe = parseRecipe({ stages: [{ method: 'squeezellm', bits: 1 }], include: ['lm_head'], overrides });
    const layers = [];
    for await (const b of quantizeBlocks({ ...experts, backend: nano.backend, recipe, fisher })) layers.push(...b.layers);
    await fisher.close();
    expect(layers.at(-1)).toMatchObject({ name: 'lm_head', sensitivity: 'fisher' });
    const alike = layers.filter((l) => l.sensitivity === 'uniform');
    expect(alike.map((l) => l.name).sort()).toEqual(unreached.filter((name) => name.includes('layers.0.')).sort());
    expect(alike[0]!.fallback).toBe('no calibration token reached this linear: weights count alike');
  });

  it.each([
    ['on the way forward', 'run block 1'],
    ['at the head', 'gradients of the head'],
    ['on the way back', 'gradients of block 2'],
    ['at the last block', 'gradients of block 0'],
  ])('of a run that was stopped %s are the same', async (_, phase) => {
    const output = path('stopped.safetensors');
    const opts = { backend: nano.backend, calibration: short, output, format: 'fisher' as const, force: true };
    const stop = new AbortController();
    const seen: string[] = [];
    const onProgress = (e: ProgressEvent) => {
      if (e.phase === phase && e.done === 2) stop.abort(new Error('stopped'));
    };
    await expect(calibrateModel(nano, { ...opts, signal: stop.signal, onProgress })).rejects.toThrow('stopped');
    await calibrateModel(nano, { ...opts, onProgress: (e) => void seen.push(e.phase) });
    expect(readFileSync(output).equals(readFileSync(path('fisher.safetensors')))).toBe(true);
    if (phase.startsWith('gradients')) expect(seen.filter((p) => p.startsWith('run'))).toEqual([]);
    expect(readdirSync(dir).filter((f) => f.endsWith('work'))).toEqual([]);
  });
});

describe('squeezellm', () => {
  const rng = createRng(3);
  const [rows, cols] = [16, 32];
  const normal = () => Float32Array.from({ length: rows * cols }, () => rng.normal());
  const linear: Linear = { weight: dense('fp32', normal(), rows, cols) };
  const squares = matrix(
    normal().map((v) => v ** 4),
    rows,
    cols,
  );
  const stage = (options: object) => stageFor(parseRecipe({ stages: [{ method: 'squeezellm', bits: 2, ...options }] }), 'a')!;

  it('counts weights by it when nothing else is said, also those with factors beside them', async () => {
    const opts = { backend: nano.backend, fisher: async () => squares };
    const { linear: got, report } = await quantizeLinear({ name: 'a' }, linear, undefined, stage({ sparse: 0.02 }), opts);
    const want = await squeezellmLinear(linear, { fisher: squares }, { bits: 2, sparse: { share: 0.02 } });
    expect(got.weight).toEqual(want.linear.weight);
    expect(report).toMatchObject({ sensitivity: 'fisher', outliers: want.report.outliers });

    const inputScale = Float32Array.from({ length: cols }, (_, i) => 2 ** ((i % 5) - 2));
    const rescaled: Linear = { weight: { kind: 'rescaled', shape: [rows, cols], inputScale, base: linear.weight } };
    const { linear: scaled } = await quantizeLinear({ name: 'a' }, rescaled, undefined, stage({}), opts);
    const byBase = matrix(
      squares.data.map((v, i) => v * inputScale[i % cols]! ** 2), // exact
      rows,
      cols,
    );
    const { weight } = await squeezellm(decode(linear.weight), { fisher: byBase }, { bits: 2 });
    expect(scaled.weight).toEqual({ ...rescaled.weight, base: weight });
  });

  it('collects it within the run: the result with a saved file is the same, and estimates know of it', async () => {
    const stages = [{ method: 'squeezellm', bits: 3 }];
    const overrides = [
      { match: 're:.*(layers\\.[1-9]|mlp)', skip: true },
      { match: '*q_proj', sensitivity: 'hessian-diagonal' },
    ];
    const recipe = parseRecipe({ stages, overrides });
    const common = { recipe, backend: nano.backend, calibration: short };
    const model = await openModel('lmq-nano');
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => {
      if (e.phase === 'quantize' && e.done === 2) stop.abort(new Error('stopped'));
    };
    await expect(quantizeModel(model, { ...common, output: path('within'), signal: stop.signal, onProgress })).rejects.toThrow('stopped');
    const within = await quantizeModel(model, { ...common, output: path('within') });
    expect(within.resumedBlocks).toBe(5); // gradients of the head and of 4 blocks
    const kinds = within.layers.map((l) => [l.name.endsWith('q_proj'), l.sensitivity]);
    expect(kinds.every(([q, kind]) => kind === (q ? 'hessian-diagonal' : 'fisher'))).toBe(true);
    const fisher = await openFisherFile(path('fisher.safetensors'), model);
    const saved = await quantizeModel(model, { ...common, fisher, output: path('saved') });
    expect(saved.layers.map(({ seconds: _, ...l }) => l)).toEqual(within.layers.map(({ seconds: _, ...l }) => l));
    const weights = (name: string) => readFileSync(join(path(name), 'model.safetensors'));
    expect(weights('saved').equals(weights('within'))).toBe(true);

    await fisher.close();
    const estimate = await estimateModel(model, recipe, nano.backend, { calibration: short });
    expect(estimate.outputBytes).toBe(within.bytes);
    expect(estimate.steps.find((s) => s.step === 'collect Fisher information')!.seconds).toBeGreaterThan(0);
    const tables = (96 + 4 * 8) * (256 + 64 + 64 + 256); // codes of 3 bits and a table a row
    const sums = 4 * (256 * 256 + 2 * 256 * 64); // of k, v, o
    const stores = (4 + 3 + 2) * 3 * 48 * 256 * 4; // inputs and gradients; inputs again, for q
    expect(estimate.workBytes).toBe(tables + sums + stores);
    await model.close();
  });

  it('refuses to go without, and what would not be used', async () => {
    const recipe = parseRecipe({ stages: [{ method: 'squeezellm' }] });
    const common = { ...nano, calibration: short };
    const blocks = async (opts: Parameters<typeof quantizeBlocks>[0]) => {
      for await (const _ of quantizeBlocks(opts)) break;
    };
    expect(await problem(blocks({ ...common, recipe }))).toMatch(/argument\/option.*Fisher information is missing/);
    const model = await openModel('lmq-nano');
    expect(await problem(quantizeModel(model, { recipe, backend: nano.backend, output: path('none') }))).toMatch(/calibration\/short/);
    const fisher = await openFisherFile(path('fisher.safetensors'), model);
    const gptq = parseRecipe({ stages: [{ method: 'gptq' }] });
    const unused = quantizeModel(model, { recipe: gptq, fisher, backend: nano.backend, calibration: short, output: path('none') });
    expect(await problem(unused)).toMatch(/argument\/option.*nothing would use/);
    const other = { of: () => ({ shape: [1, 1] as const, read: async () => squares }) };
    expect(await problem(blocks({ ...common, recipe, fisher: other }))).toMatch(/argument\/value.*another model/);
    await fisher.close();
    await model.close();
    for (const option of [{ trueSequential: true }, { minTokens: 3 }]) {
      expect(() => stage(option)).toThrow(/is an option of sensitivity hessian-diagonal/);
      expect(stage({ ...option, sensitivity: 'hessian-diagonal' })).toMatchObject(option);
    }
  });
});
