// What estimates count; how near they come to real runs is compared by hand, because tests that measure time fail on busy machines.
import { beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../src/_node/open-model.js';
import { estimateSeconds } from '../src/estimate.js';
import { planSites } from '../src/plan.js';
import type { Rates } from '../src/rates.js';
import { parseRecipe } from '../src/recipe.js';

const observe = new Map([
  ['{"method":"minmax"}', 1e6],
  ['{"method":"kl"}', 1e5],
]);
const rates: Rates = { observe, gemm: 1e9, attention: 1e9, pointwise: 1e9, syrk: 1e9, sweep: 1e9, factor: 1e9, round: 1e9, rest: 1e9 };
let models: Record<'lmq-nano' | 'lmq-nano-moe', Awaited<ReturnType<typeof openModel>>>;
beforeAll(async () => {
  models = { 'lmq-nano': await openModel('lmq-nano'), 'lmq-nano-moe': await openModel('lmq-nano-moe') };
});

function secondsOf(name: keyof typeof models, stage: object, tokens = 8192) {
  const { checkpoint, architecture } = models[name];
  const planned = planSites(checkpoint, architecture, parseRecipe({ stages: [{ method: 'gptq', ...stage }] }));
  const steps = estimateSeconds(architecture, planned, { tokens, longest: 512 }, rates, 0);
  const of = (word: string) => steps.find((s) => s.step.includes(word))?.seconds ?? 0;
  return { starved: of('starved'), run: of('run the calibration windows') };
}

describe('ranges of inputs', () => {
  it('are found once for each input of linears, and each way of finding them', () => {
    const of = (name: keyof typeof models, input: unknown, overrides: object[] = []) => {
      const { checkpoint, architecture } = models[name];
      const stages = [{ method: 'rtn', ...(input !== undefined && { input }) }];
      const planned = planSites(checkpoint, architecture, parseRecipe({ stages, overrides }));
      const steps = estimateSeconds(architecture, planned, { tokens: 1000, longest: 500 }, rates, 0);
      return steps.find((s) => s.step.includes('ranges'))?.seconds ?? 0;
    };
    const { hidden, heads, headDim, layers, mlp, moe } = models['lmq-nano'].architecture;
    const all = 1000 * layers * (2 * hidden + heads * headDim + mlp.intermediate); // qkv, gate and up, o, down
    expect(moe).toBeUndefined();
    expect(of('lmq-nano', undefined)).toBe(0);
    expect(of('lmq-nano', 'int8-token')).toBe(0);
    expect(of('lmq-nano', 'int8-static')).toBeCloseTo(all / 1e6, 9);
    const kl = [{ match: '*up_proj', input: { kind: 'int8', range: 'kl' } }];
    expect(of('lmq-nano', 'int8-static', kl)).toBeCloseTo(all / 1e6 + (1000 * layers * hidden) / 1e5, 9);
    const { architecture: m } = models['lmq-nano-moe'];
    const experts = m.moe!.topK * (m.hidden + m.mlp.intermediate); // a token's way through those that it is sent to
    expect(of('lmq-nano-moe', 'int8-static')).toBeCloseTo((1000 * m.layers * (m.hidden + m.heads * m.headDim + experts)) / 1e6, 9);
  });
});

describe('starved experts', () => {
  it('are none in models without experts, and where minTokens is 0', () => {
    expect(secondsOf('lmq-nano', {}).starved).toBe(0);
    expect(secondsOf('lmq-nano-moe', { minTokens: 0 }).starved).toBe(0);
    expect(secondsOf('lmq-nano-moe', { method: 'rtn' }).starved).toBe(0);
  });

  it('take at least one more pass over each block, and as many for each set and model', () => {
    const { run, starved } = secondsOf('lmq-nano-moe', {}); // 4 blocks: 4 passes with Hessians, 3 to the next block
    const pass = run / 7;
    expect(starved).toBeGreaterThan(4 * pass);
    expect(starved).toBeLessThan(8 * pass);
    expect(secondsOf('lmq-nano-moe', { trueSequential: true }).starved - starved).toBeCloseTo(4 * pass, 9);
    expect(secondsOf('lmq-nano-moe', { gptaq: true }).starved).toBeGreaterThan(starved + 4 * pass);
    expect(secondsOf('lmq-nano-moe', {}, 2 * 8192).starved).toBeCloseTo(2 * starved, 9);
  });

  it('are all of them when even routing gives none enough', () => {
    const share = (8192 * 2) / 8;
    const { starved } = secondsOf('lmq-nano-moe', { minTokens: share });
    expect(starved).toBe(secondsOf('lmq-nano-moe', {}).starved);
    const all = secondsOf('lmq-nano-moe', { minTokens: share + 1 }).starved;
    const { hidden, mlp } = models['lmq-nano-moe'].architecture;
    const each = (4 * hidden * mlp.intermediate + mlp.intermediate + mlp.intermediate ** 2) / 1e9; // a token's way, and its sum
    expect(all - starved).toBeCloseTo(4 * 8192 * 7 * each, 9);
  });
});
