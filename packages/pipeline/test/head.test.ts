// The output head in recipes: it must come out as the library's methods make it from what whole models give it, load where it is written,
// and survive an interruption.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from '@lmq/formats';
import { gptqLinear } from '@lmq/gptq';
import { loadModel, type Model } from '@lmq/model';
import { createCrossTerm, createHessian, rtnLinear } from '@lmq/quant-core';
import { type CompressedTensor, isLmqError, type ProgressEvent } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import type { LayerReport } from '../src/api.js';
import { modelSize } from '../src/model-size.js';
import { overlay } from '../src/overlay.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import type { Statistics } from '../src/statistics.js';
import { openNano, windows } from './_nano.js';

const HEAD = 'lm_head.weight';
const few = windows.slice(0, 3).map((w) => w.slice(0, 192));
const dir = mkdtempSync(join(tmpdir(), 'lmq-head-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const path = (name: string) => join(dir, name);

let nano: Awaited<ReturnType<typeof openNano>>;
let moe: OpenModel; // the one with a head of its own
beforeAll(async () => {
  nano = await openNano();
  moe = await openModel('lmq-nano-moe');
});

const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));
const stage = { method: 'gptq', bits: 3, groupSize: 64 };
const affine = { bits: 3, groupSize: 64, preset: 'gptq', scaleFormat: 'fp16' } as const;
/** Most experts stay as they are: any prefix of quantized linears will do. */
const FEW_EXPERTS = [{ match: 're:.*experts\\.[1-7]\\..*', skip: true }];
const recipeOf = (change: object = {}, overrides: object[] = FEW_EXPERTS) =>
  parseRecipe({ stages: [{ ...stage, ...change }], include: ['lm_head'], overrides });

const codesOf = (t: CompressedTensor | undefined) => {
  if (t?.kind !== 'affine') throw new Error(`${t?.kind}`);
  return { codes: Buffer.from(t.codes), scales: t.scales, zeroPoints: t.zeroPoints };
};

/** What the same recipe gave before. */
const made = new Map<string, ReturnType<typeof quantizeOnce>>();
function quantize(recipe: ReturnType<typeof parseRecipe>, statistics?: Statistics) {
  if (statistics) return quantizeOnce(recipe, statistics);
  const key = JSON.stringify(recipe);
  const result = made.get(key) ?? quantizeOnce(recipe);
  made.set(key, result);
  return result;
}

async function quantizeOnce(recipe: ReturnType<typeof parseRecipe>, statistics?: Statistics) {
  const weights = new Map<string, CompressedTensor>();
  const layers: LayerReport[] = [];
  const source = statistics ? { statistics } : { calibration: few };
  for await (const b of quantizeBlocks({ ...moe, backend: nano.backend, recipe, ...source })) {
    for (const [name, t] of b.weights) weights.set(name, t);
    layers.push(...b.layers);
  }
  return { weights, layers };
}

/** What the head reads in a whole model whose other linears are those of `prefix`, and in the original beside it. */
async function sums(prefix: ReadonlyMap<string, CompressedTensor>) {
  const { backend } = nano;
  const blocks = new Map([...prefix].filter(([name]) => name !== HEAD));
  const float = await loadModel({ ...moe, backend });
  const quantized = await loadModel({ ...moe, checkpoint: overlay(moe.checkpoint, blocks), backend });
  const hessian = createHessian(backend, moe.architecture.hidden);
  const crossTerm = createCrossTerm(backend, moe.architecture.hidden);
  try {
    for (const ids of few) {
      const s = backend.scope();
      const x = await quantized.hidden(s, ids);
      hessian.add(x);
      crossTerm.add(await float.hidden(s, ids), x);
      await s.flush();
      s.dispose();
    }
    return { hessian: await hessian.read(), crossTerm: await crossTerm.read() };
  } finally {
    for (const x of [float, quantized, hessian, crossTerm]) x.dispose();
  }
}

/** The files of an output folder that hold weights, or the file itself. */
function hash(...file: string[]): string {
  return createHash('sha256')
    .update(readFileSync(join(...file)))
    .digest('hex');
}

async function logitsOf(opened: OpenModel): Promise<Float32Array> {
  const model: Model = await loadModel({ ...opened, backend: nano.backend });
  const s = nano.backend.scope();
  try {
    return (await s.read(await model.forward(s, few[0]!.slice(0, 64)))).data;
  } finally {
    s.dispose();
    model.dispose();
  }
}

describe('the head', () => {
  it('GPTQ: for what the final norm of the quantized model gives it', async () => {
    const { weights, layers } = await quantize(recipeOf());
    const { hessian } = await sums(weights);
    const { linear, report } = await gptqLinear(
      { weight: await moe.checkpoint.read(HEAD) },
      { hessian },
      { ...affine, backend: nano.backend },
    );
    expect(codesOf(weights.get(HEAD))).toEqual(codesOf(linear.weight));
    expect(layers.at(-1)).toMatchObject({ name: 'lm_head', method: 'gptq', tokens: 3 * 192, loss: report.loss, error: report.proxyLoss });
    expect(layers).toHaveLength(moe.architecture.sites.filter((s) => s.role !== 'router' && !(s.expert! > 0)).length + 1);
  });

  it('leaves the other linears as they are without it', async () => {
    const { weights } = await quantize(recipeOf());
    const without = await quantize(parseRecipe({ stages: [stage], overrides: FEW_EXPERTS }));
    expect(without.weights.has(HEAD)).toBe(false);
    for (const [name, t] of without.weights) expect(codesOf(weights.get(name))).toEqual(codesOf(t));
  });

  it('GPTAQ and true-sequential: towards what the original model would have given it', async () => {
    const { weights, layers } = await quantize(recipeOf({ gptaq: 1, trueSequential: true }));
    const { hessian, crossTerm } = await sums(weights);
    const { linear, report } = await gptqLinear(
      { weight: await moe.checkpoint.read(HEAD) },
      { hessian },
      { ...affine, gptaq: { crossTerm, alpha: 1 }, backend: nano.backend },
    );
    expect(codesOf(weights.get(HEAD))).toEqual(codesOf(linear.weight));
    expect(layers.at(-1)!.asymmetricLoss).toBe(report.asymmetricLoss);
    const plain = await gptqLinear({ weight: await moe.checkpoint.read(HEAD) }, { hessian }, { ...affine, backend: nano.backend });
    expect(codesOf(plain.linear.weight).codes).not.toEqual(codesOf(linear.weight).codes);
  });

  it('round to nearest, needing no text', async () => {
    const weights = new Map<string, CompressedTensor>();
    for await (const b of quantizeBlocks({ ...moe, backend: nano.backend, recipe: recipeOf({ method: 'rtn' }) }))
      for (const [name, t] of b.weights) weights.set(name, t);
    expect(codesOf(weights.get(HEAD))).toEqual(codesOf(rtnLinear({ weight: await moe.checkpoint.read(HEAD) }, {}, affine).linear.weight));
  });

  it('counts in the bits per weight when it is quantized', async () => {
    const recipe = recipeOf({ method: 'rtn' }, [{ match: 'lm_head', bits: 8, groupSize: 32 }]);
    const { bitsPerWeight } = await quantizeModel(moe, { backend: nano.backend, recipe, output: path('counted') });
    const { checkpoint, architecture, close } = await openModel(path('counted'));
    expect(modelSize(checkpoint, architecture).bitsPerWeight).toBeCloseTo(bitsPerWeight, 12);
    expect(modelSize(moe.checkpoint, architecture).bitsPerWeight).toBe(16);
    await close();
  });

  it('has its inputs rounded like those of other quantized linears', async () => {
    const { linear } = rtnLinear({ weight: await moe.checkpoint.read(HEAD) }, {}, affine);
    const opts = { ...moe, checkpoint: overlay(moe.checkpoint, new Map([[HEAD, linear.weight]])), backend: nano.backend };
    const model = await loadModel({ ...opts, activations: 'int8' });
    const alone = nano.backend.load(linear, { activations: 'int8' });
    const exact = nano.backend.load(linear);
    const s = nano.backend.scope();
    const states = await model.hidden(s, few[0]!.slice(0, 16)); // the blocks are as they were trained
    const [logits, rounded, float] = [model.head(s, states), s.linear(states, alone), s.linear(states, exact)];
    expect((await s.read(logits)).data).toEqual((await s.read(rounded)).data);
    expect((await s.read(logits)).data).not.toEqual((await s.read(float)).data);
    for (const x of [s, alone, exact, model]) x.dispose();
  });

  it('overrides and skips apply by its name; it can be the only one', async () => {
    const { layers } = await quantize(recipeOf({}, [...FEW_EXPERTS, { match: 'lm_head', bits: 8, groupSize: 32 }]));
    expect(layers.at(-1)).toMatchObject({ name: 'lm_head', bits: 8, groupSize: 32 });
    const { layers: skipped } = await quantize(recipeOf({}, [...FEW_EXPERTS, { match: 'lm_head', skip: true }]));
    expect(skipped.map((l) => l.name)).not.toContain('lm_head');
    const alone = await quantize(recipeOf({}, [{ match: 'model.*', skip: true }]));
    expect([...alone.weights.keys()]).toEqual([HEAD]);
    const { hessian } = await sums(new Map());
    const { linear } = await gptqLinear({ weight: await moe.checkpoint.read(HEAD) }, { hessian }, { ...affine, backend: nano.backend });
    expect(codesOf(alone.weights.get(HEAD))).toEqual(codesOf(linear.weight));
  });

  it('refuses tied embeddings, and names that cannot be included', async () => {
    const tied = quantizeModel(nano, { backend: nano.backend, recipe: recipeOf({ method: 'rtn' }, []), output: path('tied') });
    expect(await problem(tied)).toMatch(/model\/unsupported.*embedding matrix.*lm_head.*untied checkpoint/);
    const skipped = recipeOf({ method: 'rtn' }, [{ match: 'lm_head', skip: true }]);
    expect((await quantizeModel(nano, { backend: nano.backend, recipe: skipped, output: path('skipped') })).layers).toHaveLength(28);
    expect(() => parseRecipe({ stages: [stage], include: ['embed_tokens'] })).toThrow(/unknown include.*lm_head.*embed_tokens/);
    expect(parseRecipe({ stages: [stage], include: ['lm_head', 'lm_head'] }).include).toEqual(['lm_head']);
    expect(parseRecipe({ stages: [stage], include: [] })).not.toHaveProperty('include');
  });
});

describe('saved statistics', () => {
  it('hold the head’s input in the original model, go on after an interruption, and serve', async () => {
    const opts = { backend: nano.backend, calibration: few };
    await calibrateModel(moe, { ...opts, output: path('whole.safetensors') });
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => e.phase === 'calibrate head' && stop.abort();
    const output = path('stopped.safetensors');
    await expect(calibrateModel(moe, { ...opts, output, signal: stop.signal, onProgress })).rejects.toThrow();
    expect((await calibrateModel(moe, { ...opts, output })).resumedBlocks).toBe(4);
    expect(hash(output)).toBe(hash(path('whole.safetensors')));

    const statistics = await openStatisticsFile(output, moe);
    expect(statistics.inputs.get('head')).toEqual({ width: 128, tokens: 3 * 192, sequences: 3 });
    const { weights } = await quantize(recipeOf(), statistics);
    const { hessian } = await sums(new Map());
    const { linear } = await gptqLinear({ weight: await moe.checkpoint.read(HEAD) }, { hessian }, { ...affine, backend: nano.backend });
    expect(codesOf(weights.get(HEAD))).toEqual(codesOf(linear.weight));
    const { head: _, ...others } = Object.fromEntries(statistics.inputs);
    const older = { ...statistics, inputs: new Map(Object.entries(others)) };
    expect(await problem(quantize(recipeOf(), older))).toMatch(/argument\/value.*head.*no such input/);
    await statistics.close();
  });
});

describe('files', () => {
  it.each([{}, { gptaq: true }])('stopped before the head, the run goes on to the same bytes: %o', async (change) => {
    const name = JSON.stringify(Object.keys(change));
    const opts = { backend: nano.backend, recipe: recipeOf(change), calibration: few };
    await quantizeModel(moe, { ...opts, output: path(`whole ${name}`) });
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => e.phase === 'calibrate head' && stop.abort();
    const output = path(`stopped ${name}`);
    await expect(quantizeModel(moe, { ...opts, output, signal: stop.signal, onProgress })).rejects.toThrow();
    const without = { ...opts.recipe, include: undefined };
    expect(await problem(quantizeModel(moe, { ...opts, recipe: without, output }))).toContain('for another recipe');
    expect((await quantizeModel(moe, { ...opts, output })).resumedBlocks).toBe(4);
    for (const file of ['model.safetensors', 'lmq.json']) expect(hash(output, file)).toBe(hash(path(`whole ${name}`), file));
  });

  it('an lmq folder and a GGUF file hold its bits, and run', async () => {
    const block = { method: 'rtn', bits: 8, groupSize: 32, symmetric: true, preset: 'gguf' };
    const recipe = recipeOf(block, []);
    const opts = { backend: nano.backend };
    await quantizeModel(moe, { ...opts, recipe, output: path('lmq') });
    await quantizeModel(moe, { ...opts, recipe: { ...recipe, export: 'gguf:q8_0' }, output: path('q8.gguf') });
    const folder = await openModel(path('lmq'));
    const gguf = await openModel(path('q8.gguf'));
    const { weights } = await quantize(recipe);
    const head = decode(weights.get(HEAD)!).data;
    expect(gguf.checkpoint.tensors.get('output.weight')!.format).toBe('Q8_0');
    expect(decode(await folder.checkpoint.read(HEAD)).data).toEqual(head);
    expect(decode(await gguf.checkpoint.read('output.weight')).data).toEqual(head);
    const whole = await logitsOf({ ...moe, checkpoint: overlay(moe.checkpoint, weights) });
    expect(await logitsOf(folder)).toEqual(whole);
    const fromGguf = await logitsOf(gguf); // embeddings in half precision, other rotary order
    const most = (values: Float32Array) => values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    expect(most(fromGguf.map((v, i) => v - whole[i]!))).toBeLessThan(0.01 * most(whole));
    await folder.close();
    await gguf.close();
  });
});
