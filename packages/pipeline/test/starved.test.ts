// Experts that too few calibration tokens reach: they must come out as the library's method makes them from sums over all tokens that whole
// models collect, say so, and leave the others as they are.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gptqLinear } from '@lmq/gptq';
import { loadModel, type Model } from '@lmq/model';
import { createCrossTerm, createHessian, fallbackLinear } from '@lmq/quant-core';
import { type CompressedTensor, isLmqError, type ProgressEvent } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { fewestTokens } from '../src/_starved.js';
import type { LayerReport } from '../src/api.js';
import { overlay } from '../src/overlay.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import type { Statistics } from '../src/statistics.js';
import { openNano, windows } from './_nano.js';

const few = windows.slice(0, 3).map((w) => w.slice(0, 100)); // 300 tokens, 75 for each expert if they were shared out evenly
const TOKENS = 300;
const STAGE = { method: 'gptq', bits: 3, groupSize: 64 };
const dir = mkdtempSync(join(tmpdir(), 'lmq-starved-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const path = (name: string) => join(dir, name);
const hash = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');
const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));

let nano: Awaited<ReturnType<typeof openNano>>;
let moe: OpenModel;
beforeAll(async () => {
  nano = await openNano();
  moe = await openModel('lmq-nano-moe');
});

const codesOf = (t: CompressedTensor | undefined) => {
  if (t?.kind !== 'affine') throw new Error(`${t?.kind}`);
  return { codes: Buffer.from(t.codes), scales: t.scales, zeroPoints: t.zeroPoints };
};

/** Blocks after this one stay as they are. */
const upTo = (layer: number) => [{ match: `re:.*layers\\.[${layer + 1}-9]\\..*`, skip: true }];

/** What the same recipe gave on the same text before. */
const made = new Map<string, ReturnType<typeof quantizeOnce>>();
function quantize(...args: Parameters<typeof quantizeOnce>) {
  if (args[2]?.statistics) return quantizeOnce(...args);
  const key = JSON.stringify(args);
  const result = made.get(key) ?? quantizeOnce(...args);
  made.set(key, result);
  return result;
}

async function quantizeOnce(
  change: object,
  overrides: object[] = [],
  source: { calibration?: number[][]; statistics?: Statistics } = { calibration: few },
) {
  const recipe = parseRecipe({ stages: [{ ...STAGE, ...change }], overrides });
  const weights = new Map<string, CompressedTensor>();
  const reports = new Map<string, LayerReport>();
  for await (const b of quantizeBlocks({ ...moe, backend: nano.backend, recipe, ...source })) {
    for (const [name, t] of b.weights) weights.set(name, t);
    for (const l of b.layers) reports.set(l.name, l);
  }
  return { weights, reports };
}
type Result = Awaited<ReturnType<typeof quantize>>;

const siteOf = (layer: number, expert: number, role: string) =>
  moe.architecture.sites.find((s) => s.layer === layer && s.expert === expert && s.role === role)!;

/** An expert's linear from all tokens. `before`: names of tensors that are quantized already. */
async function expected(result: Result, layer: number, expert: number, role: string, before: (tensor: string) => boolean, alpha?: number) {
  const { backend } = nano;
  const site = siteOf(layer, expert, role);
  const prefix = new Map([...result.weights].filter(([name]) => before(name)));
  const float = await loadModel({ ...moe, backend });
  const quantized = await loadModel({ ...moe, checkpoint: overlay(moe.checkpoint, prefix), backend });
  const weight = await moe.checkpoint.read(site.tensor);
  const hessian = createHessian(backend, weight.shape[1]);
  const crossTerm = createCrossTerm(backend, weight.shape[1]);
  try {
    for (const ids of few) {
      const s = backend.scope();
      const read = async (model: Model) => {
        let states = s.alloc(1, 1);
        await model.hidden(s, ids, {
          tap: (input, x) => {
            if (input === `layers.${layer}.moe`) states = s.copy(x);
          },
        });
        if (role !== 'down') return states;
        const at = (r: 'gate' | 'up') => model.blocks[layer]!.at(r, expert).loaded;
        return s.glu(s.linear(states, at('gate')), s.linear(states, at('up')), 'silu');
      };
      const x = await read(quantized);
      hessian.add(x);
      crossTerm.add(await read(float), x);
      await s.flush();
      s.dispose();
    }
    expect(hessian.tokens).toBe(TOKENS);
    const gptaq = alpha === undefined ? undefined : { crossTerm: await crossTerm.read(), alpha };
    const opts = { bits: 3, groupSize: 64, preset: 'gptq' as const, scaleFormat: 'fp16' as const, gptaq, backend };
    return await gptqLinear({ weight }, { hessian: await hessian.read() }, opts);
  } finally {
    for (const x of [hessian, crossTerm, float, quantized]) x.dispose();
  }
}

const isStarved = (l: LayerReport) => /^too few calibration tokens \(\d+\): calibrated on all tokens$/.test(l.fallback ?? '');
const blockOf = (tensor: string) => Number(/layers\.(\d+)\./.exec(tensor)![1]);

/** A block and two of its experts that 60 tokens split: one starved, one not. */
function pick(result: Result, layer: number) {
  const found = Array.from({ length: 8 }, (_, e) => ({ e, report: result.reports.get(siteOf(layer, e, 'gate').name)! }));
  const starved = found.find((f) => isStarved(f.report))!;
  const fed = found.find((f) => !f.report.fallback)!;
  return { starved, fed };
}

describe('starved experts', () => {
  it('are those below 0.5 % of an even share, and below 1 token', () => {
    const a = moe.architecture; // 2 of 8 experts
    expect(fewestTokens(a, 64 * 512)).toBe(41); // 32768 * 2 / 8 * 0.005 = 40.96
    expect(fewestTokens(a, 60)).toBe(1);
    expect(fewestTokens(nano.architecture, 64 * 512)).toBe(0);
  });

  it('take all tokens, and say so; the others stay as they are', async () => {
    const result = await quantize({ minTokens: 60 }, upTo(0));
    const plain = await quantize({ minTokens: 0 }, upTo(0));
    const layer = 0;
    const { starved, fed } = pick(result, layer);
    expect(starved.report).toMatchObject({ method: 'gptq', tokens: plain.reports.get(starved.report.name)!.tokens });
    expect(starved.report.fallback).toBe(`too few calibration tokens (${starved.report.tokens}): calibrated on all tokens`);
    expect(starved.report.tokens).toBeLessThan(60);
    expect(fed.report.tokens).toBeGreaterThanOrEqual(60);
    for (const role of ['gate', 'up', 'down']) {
      const { tensor } = siteOf(layer, starved.e, role);
      const { linear } = await expected(result, layer, starved.e, role, () => false);
      expect(codesOf(result.weights.get(tensor))).toEqual(codesOf(linear.weight));
      expect(codesOf(plain.weights.get(tensor)).codes).not.toEqual(codesOf(linear.weight).codes);
      const other = siteOf(layer, fed.e, role).tensor;
      expect(codesOf(result.weights.get(other))).toEqual(codesOf(plain.weights.get(other)));
    }
  });

  it('true-sequential: down takes what the quantized gate and up make of all tokens', async () => {
    const result = await quantize({ minTokens: 60, trueSequential: true }, upTo(1));
    const { starved } = pick(result, 1);
    const { linear } = await expected(result, 1, starved.e, 'down', (t) => blockOf(t) < 1 || (blockOf(t) === 1 && !t.includes('.w2.')));
    expect(codesOf(result.weights.get(siteOf(1, starved.e, 'down').tensor))).toEqual(codesOf(linear.weight));
  });

  it.each([false, true])('GPTAQ: the float model’s states of all tokens are the target; true-sequential %s', async (trueSequential) => {
    const result = await quantize({ minTokens: 60, gptaq: 1, trueSequential }, upTo(2));
    const { starved } = pick(result, 2);
    const done = (t: string) => blockOf(t) < 2 || (trueSequential && blockOf(t) === 2 && !t.includes('.w2.'));
    const { linear, report } = await expected(result, 2, starved.e, 'down', done, 1);
    const { tensor, name } = siteOf(2, starved.e, 'down');
    expect(codesOf(result.weights.get(tensor))).toEqual(codesOf(linear.weight));
    expect(result.reports.get(name)!.asymmetricLoss).toBe(report.asymmetricLoss);
    expect(isStarved(result.reports.get(name)!)).toBe(true);
    if (trueSequential) return;
    const gate = await expected(result, 2, starved.e, 'gate', done, 1);
    expect(codesOf(result.weights.get(siteOf(2, starved.e, 'gate').tensor))).toEqual(codesOf(gate.linear.weight));
  });

  it('without tokens at all: by default on all of them, with minTokens 0 rounded', async () => {
    const calibration = [[1, 2, 3]]; // at most 6 of 8 experts
    const fed = await quantize({}, [], { calibration });
    const rounded = await quantize({ minTokens: 0 }, [], { calibration });
    let none = 0;
    for (const [name, l] of rounded.reports) {
      if (l.fallback === undefined) continue;
      none++;
      expect(l.fallback).toContain('no calibration token reached');
      expect(l.method).toBe('rtn');
      expect(fed.reports.get(name)).toMatchObject({ method: 'gptq', tokens: 0 });
      expect(fed.reports.get(name)!.fallback).toBe('too few calibration tokens (0): calibrated on all tokens');
    }
    expect(none).toBeGreaterThanOrEqual(4 * 2 * 3);
  });

  it('the default changes nothing up to the first expert that is starved', async () => {
    const calibration = windows.slice(0, 2);
    const byDefault = await quantize({}, [], { calibration });
    const off = await quantize({ minTokens: 0 }, [], { calibration });
    const starved = [...byDefault.reports.values()].filter(isStarved).map((l) => `${l.name}.weight`);
    const first = Math.min(...starved.map(blockOf)); // experts that this model never uses
    expect(Number.isFinite(first)).toBe(true);
    for (const [tensor, t] of off.weights) {
      if (blockOf(tensor) > first || starved.includes(tensor)) continue;
      expect(codesOf(byDefault.weights.get(tensor))).toEqual(codesOf(t));
    }
  });

  it('with a fallback are quantized by it, alone or where an override says so; the others as without', async () => {
    const plain = await quantize({ minTokens: 0 }, upTo(0));
    const fed = await quantize({ minTokens: 60 }, upTo(0));
    const all = await quantize({ minTokens: 60, fallback: 'median' }, upTo(0));
    const up = moe.architecture.sites.find((s) => s.role === 'up' && s.expert !== undefined)!.name.replace(/^.*\.(\w+)$/, '*.experts.*.$1');
    const some = await quantize({ minTokens: 60 }, [{ match: up, fallback: 'median' }, ...upTo(0)]);
    const { starved, fed: other } = pick(fed, 0);
    for (const role of ['gate', 'up', 'down']) {
      const { tensor, name } = siteOf(0, starved.e, role);
      const weight = await moe.checkpoint.read(tensor);
      const { linear } = fallbackLinear({ weight }, {}, { bits: 3, groupSize: 64, strategy: 'median' });
      expect(codesOf(all.weights.get(tensor))).toEqual(codesOf(linear.weight));
      const { tokens, fallback, method } = all.reports.get(name)!;
      expect({ tokens, fallback, method }).toEqual({
        tokens: starved.report.tokens,
        fallback: `${tokens} calibration tokens: quantized by fallback median`,
        method: 'rtn',
      });
      expect(codesOf(some.weights.get(tensor))).toEqual(codesOf(role === 'up' ? linear.weight : fed.weights.get(tensor)));
      const same = siteOf(0, other.e, role).tensor;
      expect(codesOf(all.weights.get(same))).toEqual(codesOf(plain.weights.get(same)));
    }
  });

  it('are fed too where only the range needs their inputs', async () => {
    const result = await quantize({ method: 'rtn', clip: 'imatrix', minTokens: 60 }, upTo(0));
    const notes = [...result.reports.values()].flatMap((l) => l.fallback ?? []);
    expect(notes.length).toBeGreaterThan(0);
    for (const note of notes) expect(note).toMatch(/^too few calibration tokens \(\d+\): calibrated on all tokens$/);
  });

  it('linears that only round keep their own sums', async () => {
    const result = await quantize({ minTokens: 60 }, [{ match: '*.experts.*', method: 'rtn' }, ...upTo(0)]);
    expect([...result.reports.values()].filter((l) => l.fallback)).toEqual([]);
  });

  it('minTokens is an option of a whole stage, and a count', () => {
    expect(() => parseRecipe({ stages: [STAGE], overrides: [{ match: '*', minTokens: 3 }] })).toThrow(
      /minTokens is an option of a whole stage/,
    );
    for (const minTokens of [-1, 1.5, '3']) expect(() => parseRecipe({ stages: [{ ...STAGE, minTokens }] })).toThrow(/minTokens/);
    expect(JSON.stringify(parseRecipe({ stages: [STAGE] }))).not.toContain('minTokens');
  });
});

describe('files', () => {
  it('stopped while feeding, a run goes on to the same bytes', async () => {
    const recipe = parseRecipe({ stages: [{ ...STAGE, minTokens: 60 }], export: 'gguf:f32' });
    const opts = { backend: nano.backend, recipe, calibration: few };
    await quantizeModel(moe, { ...opts, output: path('whole.gguf') });
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => e.phase === 'calibrate starved experts of block 2' && stop.abort();
    const output = path('stopped.gguf');
    await expect(quantizeModel(moe, { ...opts, output, signal: stop.signal, onProgress })).rejects.toThrow();
    const r = await quantizeModel(moe, { ...opts, output });
    expect(r.resumedBlocks).toBe(2);
    expect(r.layers.filter(isStarved).length).toBeGreaterThan(0);
    expect(hash(output)).toBe(hash(path('whole.gguf')));
  });

  it('statistics are collected so, and say so', async () => {
    const opts = { backend: nano.backend, calibration: few, minTokens: 60 };
    const whole = await calibrateModel(moe, { ...opts, output: path('whole.safetensors') });
    expect(whole.starved.length).toBeGreaterThan(0);
    expect(whole.unreached).toEqual([]);
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => e.phase === 'calibrate starved experts of block 1' && stop.abort();
    const output = path('stopped.safetensors');
    await expect(calibrateModel(moe, { ...opts, output, signal: stop.signal, onProgress })).rejects.toThrow();
    expect(await problem(calibrateModel(moe, { ...opts, minTokens: 59, output }))).toContain('for another minTokens');
    expect((await calibrateModel(moe, { ...opts, output })).resumedBlocks).toBe(1);
    expect(hash(output)).toBe(hash(path('whole.safetensors')));

    const statistics = await openStatisticsFile(output, moe);
    const result = await quantize({}, upTo(1), { statistics });
    const { starved } = pick(result, 1);
    expect(statistics.inputs.get(siteOf(1, starved.e, 'gate').input)).toMatchObject({ tokens: TOKENS, reached: starved.report.tokens });
    for (const role of ['gate', 'down']) {
      const { linear } = await expected(result, 1, starved.e, role, () => false);
      expect(codesOf(result.weights.get(siteOf(1, starved.e, role).tensor))).toEqual(codesOf(linear.weight));
    }
    expect(await problem(quantize({ minTokens: 60 }, [], { statistics }))).toMatch(/argument\/option.*minTokens and saved statistics/);
    await statistics.close();
    expect(await problem(calibrateModel(moe, { ...opts, minTokens: -1, output: path('x') }))).toMatch(/minTokens/);
  });
});
