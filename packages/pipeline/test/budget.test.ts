// Mixed precision: what may be chosen, what is measured, and that the choice is a recipe like any other.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare, klDivergence, logSumExp } from '@lmq/eval';
import { decode } from '@lmq/formats';
import { loadModel } from '@lmq/model';
import { rtn } from '@lmq/quant-core';
import { isLmqError } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { allocateBudget, type BudgetPlan, type LinearErrors, planBudget } from '../src/budget.js';
import { affineBytes } from '../src/estimate.js';
import { type MeasureBlocksOpts, measureBlocks } from '../src/measure-blocks.js';
import { overlay } from '../src/overlay.js';
import { planSites } from '../src/plan.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-budget-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let nano: Awaited<ReturnType<typeof openNano>>;
let moe: Awaited<ReturnType<typeof openModel>>;
beforeAll(async () => {
  nano = await openNano();
  moe = await openModel('lmq-nano-moe');
});
afterAll(async () => {
  await nano.close();
  await moe.close();
});

const stages = [{ method: 'rtn', groupSize: 128 }];
const few = windows.slice(0, 2).map((w) => w.slice(0, 128));
const problem = (f: () => unknown): string => {
  try {
    f();
  } catch (e) {
    return isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e).toString();
  }
  return 'nothing was thrown';
};
/** Of what is asked for later. */
const problemOf = (p: Promise<unknown>) =>
  p.then(
    () => 'nothing was thrown',
    (e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)),
  );
const plan = (recipe: object, model: Pick<typeof moe, 'checkpoint' | 'architecture'> = nano) =>
  planBudget(model.checkpoint, model.architecture, parseRecipe({ stages, ...recipe }));
/** Names of what can be chosen. */
const choices = (p: BudgetPlan, linear: string) =>
  p.linears.find((l) => l.site.name.endsWith(linear))!.candidates.map(({ stage }) => (stage ? stage.bits : 'kept'));

async function measured(recipe: object, opts: Partial<MeasureBlocksOpts> = {}): Promise<LinearErrors[]> {
  const out: LinearErrors[] = [];
  for await (const b of measureBlocks({ ...nano, calibration: few, recipe: parseRecipe({ stages, ...recipe }), ...opts }))
    out.push(...b.linears);
  return out;
}

describe('recipes', () => {
  it.each([
    [{ bits: 0 }, 'budget.bits is out of range'],
    [{ bits: 16 }, 'budget.bits is out of range'],
    [{ bits: '4' }, 'budget.bits is out of range'],
    [{ bits: 4, measure: 'mse' }, 'unknown budget.measure'],
    [{ bits: 4, solver: 'ilp' }, 'unknown budget.solver'],
    [{ bits: 4, agree: 'all' }, 'unknown budget.agree'],
    [{ bits: 4, candidate: [] }, 'unknown field budget.candidate'],
    [{ bits: 4, candidates: [{ bits: 9 }] }, 'budget.candidates[0].bits is out of range'],
    [{ bits: 4, candidates: [{ match: '*', bits: 3 }] }, 'unknown field budget.candidates[0].match'],
    [{ bits: 4, candidates: [{ trueSequential: true }] }, 'whole stage'],
    [{ bits: 4, candidates: [{ method: 'ggml' }] }, 'ggml and other methods'],
    [{ bits: 4, candidates: [{ type: 'Q4_K' }] }, 'unknown field budget.candidates[0].type'],
  ])('refuses %j', (budget, text) => {
    expect(problem(() => parseRecipe({ stages, budget }))).toContain(text);
  });
  it('refuses a budget without a stage that quantizes, and for mixtures of llama.cpp', () => {
    expect(problem(() => parseRecipe({ stages: [], budget: { bits: 4 } }))).toContain('a stage that quantizes');
    expect(problem(() => parseRecipe({ export: 'gguf:q4_k_m', budget: { bits: 4 } }))).toContain('mixtures');
  });
  it('parsed recipes can be parsed again', () => {
    const recipe = parseRecipe({ stages, budget: { bits: 4, candidates: [{ bits: 3 }, { skip: true }, { method: 'hqq', bits: 4 }] } });
    expect(parseRecipe(recipe)).toEqual(recipe);
  });
});

describe('planBudget', () => {
  it('by default tries what the export can hold', async () => {
    const of = async (recipe: object) => choices(await plan({ budget: { bits: 4.3 }, ...recipe }), '.2.mlp.up_proj');
    expect(await of({})).toEqual([2, 3, 4, 5, 6, 8, 'kept']);
    expect(await of({ export: 'gptq' })).toEqual([2, 3, 4, 8, 'kept']);
    expect(await of({ export: 'onnx' })).toEqual([4, 8, 'kept']);
    expect(await of({ export: 'awq', budget: { bits: 5 } })).toEqual([4, 'kept']);
    expect(await of({ stages: [{ method: 'nf4' }], export: 'bitsandbytes', budget: { bits: 5 } })).toEqual([4, 'kept']);
    const q8 = { method: 'rtn', bits: 8, groupSize: 32, symmetric: true };
    expect(await of({ stages: [q8], export: 'gguf:q8_0', budget: { bits: 9 } })).toEqual([8, 'kept']);
  });
  it('refuses what is asked for and cannot be held, before anything is measured', async () => {
    const asked = (candidates: object[], target: string) => problemOf(plan({ budget: { bits: 5, candidates }, export: target }));
    expect(await asked([{ bits: 4 }, { bits: 5 }], 'gptq')).toContain('export/unsupported');
    expect(await asked([{ bits: 4 }, { bits: 4, groupSize: 64 }], 'awq')).toContain('groupSize');
    expect(await asked([{ bits: 4 }, { method: 'nf4' }], 'compressed-tensors')).toContain('method nf4');
    expect(await asked([{ bits: 4 }, { groupSize: 100 }], 'lmq')).toContain('does not divide');
  });
  it('linears that runtimes fuse agree in folders of other tools, and all experts of a projection', async () => {
    const groups = (p: BudgetPlan) => new Set(p.linears.map((l) => l.group ?? l.site.name)).size;
    expect(groups(await plan({ budget: { bits: 4 } }))).toBe(28);
    expect(groups(await plan({ budget: { bits: 4, agree: 'fused' } }))).toBe(16);
    expect(groups(await plan({ budget: { bits: 4.3 }, export: 'compressed-tensors' }, moe))).toBe(4 * 4);
    expect(await problemOf(plan({ budget: { bits: 4.3, agree: 'none' }, export: 'compressed-tensors' }))).toContain('runtimes fuse');
  });
  it("the recipe's own overrides win, and count", async () => {
    const budget = { bits: 3.3 };
    const overrides = [
      { match: '*v_proj', bits: 8 },
      { match: '*q_proj', groupSize: 64 },
      { match: '*k_proj', skip: true },
    ];
    const p = await plan({ budget, overrides });
    expect(choices(p, '.0.self_attn.v_proj')).toEqual([8]);
    expect(choices(p, '.0.self_attn.q_proj')).toEqual([2, 3, 4, 5, 6, 8, 'kept']);
    expect(p.linears.some((l) => l.site.role === 'k')).toBe(false);
    const errors = p.linears.map(({ site, candidates }) => ({ name: site.name, errors: candidates.map((c) => 1 / c.bytes) }));
    const { recipe, report } = allocateBudget(parseRecipe({ stages, budget, overrides }), p, errors);
    const sites = planSites(nano.checkpoint, nano.architecture, recipe);
    const stored = sites.reduce((n, s) => n + affineBytes(s.out, s.in, s.stage), 0);
    const weights = sites.reduce((n, s) => n + s.out * s.in, 0);
    expect((8 * stored) / weights).toBeLessThanOrEqual(3.3);
    expect(report.bitsPerWeight).toBeCloseTo((8 * stored) / weights, 12); // nothing is kept at 3.3 bits
    expect(sites.filter((s) => s.site.role === 'v').map((s) => s.stage.bits)).toEqual([8, 8, 8, 8]);
    expect(sites.filter((s) => s.site.role === 'q').every((s) => s.stage.groupSize === 64)).toBe(true);
  });
  it('says the least budget that there is', async () => {
    expect(await problemOf(plan({ budget: { bits: 4 }, overrides: [{ match: '*', skip: true }] }))).toContain('no linear to spend');
    expect(await problemOf(plan({ budget: { bits: 2 } }))).toMatch(/argument\/option.*at least 2\.1407 bits per weight; found 2\b/);
    expect(choices(await plan({ budget: { bits: 2.1407 } }), 'o_proj')).toContain(2);
  });
});

describe('measures', () => {
  const linear = 'model.layers.1.mlp.down_proj';
  const only = [{ match: 're:(?!.*layers.1.mlp.down_proj)', skip: true }];
  const candidates = [{ bits: 2 }, { bits: 4 }, { skip: true }];

  it('weight: squared error relative to the weights, nothing for what is kept', async () => {
    const [own, ...others] = await measured({ overrides: only, budget: { bits: 5, candidates, measure: 'weight' } });
    const w = decode(await nano.checkpoint.read(`${linear}.weight`));
    const error = (bits: number) => rtn(w, { bits, groupSize: 128 }).report.relativeError ** 2;
    expect(others).toEqual([]);
    expect(own).toEqual({ name: linear, errors: [expect.closeTo(error(2), 12), expect.closeTo(error(4), 12), 0] });
  });

  it('output: relative error of the outputs, by the share that they have in the stream; saved statistics give the same', async () => {
    const recipe = { overrides: [{ match: 're:(?!.*mlp)', skip: true }], budget: { bits: 4, candidates } };
    const text = await measured(recipe);
    const file = join(dir, 'statistics.safetensors');
    await calibrateModel(nano, { backend: nano.backend, calibration: few, output: file });
    const statistics = await openStatisticsFile(file, nano);
    expect(await measured(recipe, { statistics, calibration: undefined })).toEqual(text);
    const share = statistics.of('layers.1.down')!.share!;
    expect(share).toBeGreaterThan(0.1);
    expect(share).toBeLessThan(1);
    const hessian = await statistics.of('layers.1.down')!.hessian.read();
    const { proxyLoss } = rtn(decode(await nano.checkpoint.read(`${linear}.weight`)), { bits: 4, groupSize: 128, hessian }).report;
    expect(text.find((l) => l.name === linear)!.errors[1]! / (share * proxyLoss!)).toBeCloseTo(1, 6); // float32 products
    await statistics.close();
  });

  it('kl: what the whole model with this one linear quantized says', async () => {
    const recipe = { overrides: only, budget: { bits: 5, candidates, measure: 'kl' } };
    const [own] = await measured(recipe);
    const { weight } = rtn(decode(await nano.checkpoint.read(`${linear}.weight`)), { bits: 2, groupSize: 128 });
    const { architecture, backend, checkpoint } = nano;
    const base = await loadModel({ checkpoint, architecture, backend });
    const other = await loadModel({ architecture, backend, checkpoint: overlay(checkpoint, new Map([[`${linear}.weight`, weight]])) });
    let sum = 0;
    for (const ids of few) {
      const s = backend.scope();
      const { data: p } = await s.read(await base.forward(s, ids));
      const { data: q } = await s.read(await other.forward(s, ids));
      const { vocab } = architecture;
      for (let at = 0; at < p.length; at += vocab) sum += klDivergence(p, logSumExp(p, at, vocab), q, logSumExp(q, at, vocab), at, vocab);
      s.dispose();
    }
    base.dispose();
    other.dispose();
    const [two, four, kept] = own!.errors;
    expect(two).toBeCloseTo(sum / (2 * 128), 6);
    expect(two).toBeGreaterThan(10 * four!);
    expect(four).toBeGreaterThan(0);
    expect(kept).toBe(0);
  });

  it('kl of an output head, after blocks of which nothing is quantized', async () => {
    const recipe = parseRecipe({
      stages,
      include: ['lm_head'],
      overrides: [{ match: 're:(?!lm_head)', skip: true }],
      budget: { bits: 8, candidates, measure: 'kl' },
    });
    const found = [];
    for await (const b of measureBlocks({ ...moe, backend: nano.backend, calibration: few, recipe })) found.push(...b.linears);
    expect(found.map((l) => l.name)).toEqual(['lm_head']);
    expect(found[0]!.errors[0]).toBeGreaterThan(found[0]!.errors[1]!);
  });

  it('experts count by the tokens that they serve', async () => {
    const recipe = {
      overrides: [{ match: 're:(?!.*layers.0.*(w2|o_proj))', skip: true }],
      budget: { bits: 4, candidates: [{ bits: 3 }, { bits: 4 }] },
    };
    const outputs = await measured(recipe, { ...moe });
    const weights = await measured({ ...recipe, budget: { ...recipe.budget, measure: 'weight' } }, { ...moe });
    const mean = (all: LinearErrors[], end: string) => {
      const own = all.filter((l) => l.name.endsWith(end));
      return own.reduce((n, l) => n + l.errors[0]!, 0) / own.length;
    };
    for (const all of [outputs, weights]) expect(mean(all, 'w2') / mean(all, 'o_proj')).toBeLessThan(0.6); // 2 of 8 experts
  });

  it('refuses what saved statistics do not show', async () => {
    const statistics = await openStatisticsFile(join(dir, 'statistics.safetensors'), nano);
    const recipe = (measure: string) => parseRecipe({ stages, budget: { bits: 4, measure } });
    const run = (measure: string, s = statistics) =>
      estimateModel(nano, recipe(measure), nano.backend, { statistics: s }).then(
        () => 'nothing was thrown',
        (e) => e.message,
      );
    expect(await run('kl')).toContain('KL is measured on text');
    const inputs = new Map([...statistics.inputs].map(([name, { share: _, ...rest }]) => [name, rest]));
    expect(await run('output', { ...statistics, inputs })).toContain('Collect them again');
    await statistics.close();
  });
});

describe('quantizeModel', () => {
  const budget = { bits: 3.1484375, candidates: [{ bits: 2 }, { bits: 3 }, { bits: 4 }] }; // what 3 bits in groups of 128 take

  it('spends the budget; the recipe in the output gives the same bytes without measuring', async () => {
    const output = join(dir, 'mixed');
    const report = await quantizeModel(nano, { ...nano, recipe: parseRecipe({ stages, budget }), calibration: few, output });
    expect(report.bitsPerWeight).toBeLessThanOrEqual(3.1484375);
    expect(report.bitsPerWeight).toBeGreaterThan(3.1);
    expect(report.budget).toMatchObject({ bits: 3.1484375, measure: 'output', solver: 'knapsack', bitsPerWeight: report.bitsPerWeight });
    expect(report.budget!.linears.map((l) => [l.name, l.choice.bits])).toEqual(report.layers.map((l) => [l.name, l.bits]));
    expect(new Set(report.layers.map((l) => l.bits)).size).toBeGreaterThan(1);
    const manifest = JSON.parse(readFileSync(join(output, 'lmq.json'), 'utf8'));
    const said = JSON.parse(readFileSync(join(output, 'lmq-report.json'), 'utf8'));
    expect(said.budget).toEqual(JSON.parse(JSON.stringify(report.budget)));
    const again = join(dir, 'again');
    await quantizeModel(nano, { ...nano, recipe: parseRecipe(manifest.info.recipe), output: again });
    const weights = (folder: string) => readFileSync(join(folder, 'model.safetensors'));
    expect(weights(again).equals(weights(output))).toBe(true);
  });

  it('mixed precision of the size of 3 bits is nearer to the original than 3 bits are', async () => {
    const base = await loadModel({ ...nano });
    const recipe = parseRecipe({ stages, budget });
    const p = await planBudget(nano.checkpoint, nano.architecture, recipe);
    const mixed = allocateBudget(recipe, p, await measured({ budget })).recipe;
    const klOf = async (r: unknown) => {
      const model = await loadModel({ ...nano, checkpoint: overlay(nano.checkpoint, (await nano.quantize(r)).weights) });
      const { kl } = await compare(model, base, windows.slice(60), { windows: 2 });
      model.dispose();
      return kl;
    };
    const [before, after] = [await klOf({ stages: [{ ...stages[0], bits: 3 }] }), await klOf(mixed)];
    base.dispose();
    expect(after).toBeLessThan(0.92 * before); // 0.83 with 64 windows
  });

  it('stopped while measuring it goes on there, to the same output', async () => {
    const recipe = parseRecipe({
      stages,
      overrides: [{ match: 're:(?!.*(k|v)_proj)', skip: true }],
      budget: { bits: 3.5, measure: 'kl', candidates: [{ bits: 3 }, { bits: 4 }] },
    });
    const short = few.map((w) => w.slice(0, 32));
    const opts = { ...nano, recipe, calibration: short };
    const whole = await quantizeModel(nano, { ...opts, output: join(dir, 'whole') });
    const stop = new AbortController();
    const onProgress = (e: { phase: string; layer?: string }) => {
      if (e.phase === 'measure' && e.layer?.includes('.layers.2.')) stop.abort();
    };
    const output = join(dir, 'stopped');
    await expect(quantizeModel(nano, { ...opts, output, signal: stop.signal, onProgress })).rejects.toThrow();
    const report = await quantizeModel(nano, { ...opts, output });
    expect(report.resumedBlocks).toBe(2);
    expect(report.budget).toEqual(whole.budget);
    expect(readFileSync(join(output, 'model.safetensors')).equals(readFileSync(join(dir, 'whole', 'model.safetensors')))).toBe(true);
    expect(readdirSync(dir).filter((f) => f.startsWith('.'))).toEqual([]);
  });
});
