// NF4, FP4, HQQ and SqueezeLLM through recipes: the methods' own results, folders that hold them, and exports that refuse.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, dense, layoutName } from '@lmq/formats';
import { gptqLinear } from '@lmq/gptq';
import { hqqLinear, squeezellmLinear, table4Linear } from '@lmq/quant-core';
import { createRng, isLmqError, type Linear, matrix } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { checkExport } from '../src/export-rules.js';
import { planSites } from '../src/plan.js';
import { quantizeLinear } from '../src/quantize-linear.js';
import { parseRecipe, stageFor } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-own-grids-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});

const WIDTH = 64;
const rng = createRng(3);
const linear: Linear = {
  weight: dense(
    'fp32',
    Float32Array.from({ length: 24 * WIDTH }, () => rng.normal()),
    24,
    WIDTH,
  ),
};
const hessian = matrix(new Float32Array(WIDTH ** 2), WIDTH, WIDTH);
for (let i = 0; i < WIDTH; i++) hessian.set(i, i, 1 + (i % 7));

function stageOf(stage: object) {
  return stageFor(parseRecipe({ stages: [stage] }), 'a.linear')!;
}

describe('stages', () => {
  it.each<[object, () => unknown, object]>([
    [{ method: 'nf4' }, () => table4Linear(linear, { hessian }, { table: 'nf4' }), { bits: 4, groupSize: 64 }],
    [
      { method: 'fp4', groupSize: 128, doubleQuant: true },
      () => table4Linear(linear, { hessian }, { table: 'fp4', blockSize: 128, doubleQuant: true }),
      { groupSize: 128, doubleQuant: true },
    ],
    [{ method: 'hqq' }, () => hqqLinear(linear, { hessian }), { bits: 4, groupSize: 64 }],
    [{ method: 'hqq', trits: true }, () => hqqLinear(linear, { hessian }, { trits: true }), { bits: 2, trits: true }],
    [
      { method: 'hqq', bits: 2, groupSize: 16, lpNorm: 0.5, beta: 1, kappa: 1.1, iters: 5, scaleFormat: 'bf16', referenceCompat: true },
      () =>
        hqqLinear(
          linear,
          { hessian },
          {
            ...{ bits: 2, groupSize: 16, lpNorm: 0.5, beta: 1, kappa: 1.1, iters: 5, scaleFormat: 'bf16', referenceCompat: true },
          },
        ),
      { bits: 2, groupSize: 16 },
    ],
    [
      { method: 'squeezellm', bits: 3, sensitivity: 'hessian-diagonal' },
      () => squeezellmLinear(linear, { hessian }, { bits: 3 }),
      { bits: 3, groupSize: -1, sensitivity: 'hessian-diagonal', outliers: 0 },
    ],
    [
      { method: 'squeezellm', sparse: 0.02, sensitivity: 'uniform' },
      () => squeezellmLinear(linear, { hessian }, { sparse: { share: 0.02 }, sensitivity: 'uniform' }),
      { sensitivity: 'uniform', outliers: 30 },
    ],
    [
      { method: 'squeezellm', sparse: { share: 0.02, fullRows: 2, format: 'fp32' }, sensitivity: 'hessian-diagonal' },
      () => squeezellmLinear(linear, { hessian }, { sparse: { share: 0.02, fullRows: 2, format: 'fp32' } }),
      { sensitivity: 'hessian-diagonal' },
    ],
  ])('%j', async (stage, wanted, facts) => {
    const opts = { backend: nano.backend };
    const { linear: got, report } = await quantizeLinear(
      { name: 'a' },
      linear,
      { hessian: { tokens: 9, read: async () => hessian } },
      stageOf(stage),
      opts,
    );
    const want = (await wanted()) as { linear: Linear; report: { proxyLoss: number; bitsPerWeight: number } };
    expect(got.weight).toEqual(want.linear.weight);
    expect(report).toMatchObject({
      ...facts,
      method: stageOf(stage).method,
      error: want.report.proxyLoss,
      bitsPerWeight: want.report.bitsPerWeight,
      tokens: 9,
    });
    expect(report).not.toHaveProperty('fallback');
  });

  it.each<[object, object]>([
    [
      { method: 'gptq', table: 'nf4' },
      { table: 'nf4', groupSize: 64 },
    ],
    [
      { method: 'gptq', table: 'fp4', groupSize: 32, actOrder: true, staticGroups: true },
      { table: 'fp4', groupSize: 32, actOrder: true, staticGroups: true },
    ],
  ])('%j: the sweep to a table, and the method of its name without calibration', async (stage, opts) => {
    const { backend } = nano;
    const statistics = { hessian: { tokens: 9, read: async () => hessian } };
    const { linear: got, report } = await quantizeLinear({ name: 'a' }, linear, statistics, stageOf(stage), { backend });
    const want = await gptqLinear(linear, { hessian }, { bits: 4, backend, ...opts });
    expect(got.weight).toEqual(want.linear.weight);
    const { table, groupSize } = stageOf(stage);
    expect(report).toMatchObject({
      method: 'gptq',
      table,
      groupSize,
      bits: 4,
      tokens: 9,
      loss: want.report.loss,
      bitsPerWeight: want.report.bitsPerWeight,
    });
    const blind = await quantizeLinear({ name: 'a' }, linear, undefined, stageOf(stage), { backend });
    expect(blind.linear.weight).toEqual(table4Linear(linear, {}, { table: table!, blockSize: groupSize }).linear.weight);
    expect(blind.report).toMatchObject({ method: table, fallback: 'no calibration token reached this linear: rounded to nearest' });
  });

  it('a linear that no token reached counts its weights alike, and says so', async () => {
    const stage = stageOf({ method: 'squeezellm', sensitivity: 'hessian-diagonal' });
    const { report } = await quantizeLinear({ name: 'a' }, linear, undefined, stage, { backend: nano.backend });
    expect(report).toMatchObject({ sensitivity: 'uniform', fallback: 'no calibration token reached this linear: weights count alike' });
  });

  it.each<[string, object]>([
    ['nf4 of 3 bits', { method: 'nf4', bits: 3 }],
    ['nf4 per row', { method: 'nf4', groupSize: -1 }],
    ['trits of 3 bits', { method: 'hqq', trits: true, bits: 3 }],
    ['nf4 with an option of GPTQ', { method: 'nf4', actOrder: true }],
    ['hqq with double quantization', { method: 'hqq', doubleQuant: true }],
    ['rtn with iterations', { method: 'rtn', iters: 3 }],
    ['gptq with outliers', { method: 'gptq', sparse: true }],
    ['an exponent above 1', { method: 'hqq', lpNorm: 2 }],
    ['an exponent in words', { method: 'hqq', lpNorm: 'half' }],
    ['a share above a half', { method: 'squeezellm', sparse: 0.7 }],
    ['an unknown field of sparse', { method: 'squeezellm', sparse: { part: 0.1 } }],
    ['a table of 3 bits', { method: 'gptq', table: 'nf4', bits: 3 }],
    ['a table with a symmetric grid', { method: 'gptq', table: 'nf4', symmetric: true }],
    ['a table with quantized inputs', { method: 'gptq', table: 'nf4', input: 'int8-token' }],
    ['a table with groups in act-order', { method: 'gptq', table: 'nf4', actOrder: true }],
    ['a table per row', { method: 'gptq', table: 'fp4', groupSize: -1 }],
    ['a table that rounds to nearest', { method: 'rtn', table: 'nf4' }],
    ['nf4 with a table', { method: 'nf4', table: 'fp4' }],
    ['an unknown table', { method: 'gptq', table: 'af4' }],
    ['a sensitivity that no recipe has', { method: 'squeezellm', sensitivity: 'magnitude' }],
  ])('refuses %s', (_, stage) => {
    let found: unknown;
    try {
      planSites(nano.checkpoint, nano.architecture, parseRecipe({ stages: [stage] }));
    } catch (e) {
      found = e;
    }
    expect(isLmqError(found) && found.code).toBe('argument/option');
  });

  it('a method in an override brings its defaults', () => {
    const recipe = parseRecipe({
      stages: [{ method: 'rtn', groupSize: 32 }],
      overrides: [{ match: '*down_proj', method: 'hqq', bits: 3 }],
    });
    expect(stageFor(recipe, 'x.down_proj')).toMatchObject({ method: 'hqq', bits: 3, groupSize: 64 });
    expect(stageFor(recipe, 'x.up_proj')).toMatchObject({ method: 'rtn', groupSize: 32 });
  });
});

describe('models', () => {
  it.each<[string, object, string]>([
    ['nf4', { method: 'nf4', doubleQuant: true }, 'bitsandbytes'],
    ['fp4', { method: 'fp4', groupSize: 32 }, 'bitsandbytes'],
    ['hqq', { method: 'hqq', groupSize: 32 }, 'hqq'],
    ['hqq-trits', { method: 'hqq', trits: true }, 'hqq'],
    ['squeezellm', { method: 'squeezellm', bits: 3, sparse: { share: 0.01 } }, ''],
    ['gptq-nf4', { method: 'gptq', table: 'nf4' }, 'bitsandbytes'],
  ])('%s: folders hold the weights that were made, and estimates know their size', async (name, stage, folder) => {
    const calibration = windows.slice(0, 2);
    const overrides = [{ match: 're:.*layers\\.[1-9]', skip: true }];
    const { weights } = await nano.quantize({ stages: [stage], overrides }, calibration);
    for (const target of folder ? ['lmq', folder] : ['lmq']) {
      const output = join(dir, `${name}-${target}`);
      const recipe = parseRecipe({ stages: [stage], overrides, export: target });
      const model = await openModel('lmq-nano');
      const result = await quantizeModel(model, { recipe, output, backend: nano.backend, calibration });
      const estimate = await estimateModel(model, recipe, nano.backend, { calibration });
      await model.close();
      expect(Math.abs(estimate.outputBytes / result.bytes - 1)).toBeLessThan(0.005);
      // of outliers, at most so many: equal weights stay together
      const above = estimate.bitsPerWeight - result.bitsPerWeight;
      if (name === 'squeezellm') expect(above).toBeGreaterThanOrEqual(0);
      if (target === 'lmq') expect(Math.abs(above)).toBeLessThan(name === 'squeezellm' ? 0.03 : 1e-9);
      const opened = await openModel(output);
      try {
        expect(opened.checkpoint.format).toBe(target);
        for (const [tensor, t] of weights) {
          const read = await opened.checkpoint.read(tensor);
          if (target === 'lmq') expect(layoutName(read)).toBe(layoutName(t));
          expect(Buffer.from(decode(read).data.buffer).equals(Buffer.from(decode(t).data.buffer)), tensor).toBe(true);
        }
      } finally {
        await opened.close();
      }
    }
  });

  it.each<[string, object, string]>([
    ['gptq', { method: 'hqq' }, 'method hqq'],
    ['awq', { method: 'nf4' }, 'method nf4'],
    ['onnx', { method: 'squeezellm' }, 'method squeezellm'],
    ['gguf:q4_0', { method: 'nf4' }, 'method nf4'],
    ['bitsandbytes', { method: 'gptq' }, 'bits 4'],
    ['bitsandbytes', { method: 'nf4', groupSize: 48 }, 'blocks of 48'],
    ['hqq', { method: 'nf4' }, 'nf4'],
    ['gptq', { method: 'gptq', table: 'nf4' }, 'method gptq with table nf4'],
    ['bitsandbytes', { method: 'gptq', table: 'nf4', groupSize: 16 }, 'blocks of 16'],
    ['hqq', { method: 'hqq', bits: 7 }, 'bits 7'],
  ])('%s refuses %j before any work', async (target, stage, why) => {
    const recipe = parseRecipe({ stages: [stage], export: target });
    let found: unknown;
    try {
      await checkExport(recipe, planSites(nano.checkpoint, nano.architecture, recipe));
    } catch (e) {
      found = e;
    }
    expect(isLmqError(found) && found.code).toBe('export/unsupported');
    expect(String(found)).toContain(why);
  });

  it('bitsandbytes has one table for all linears', async () => {
    const recipe = parseRecipe({
      stages: [{ method: 'nf4' }],
      overrides: [{ match: '*down_proj', method: 'fp4' }],
      export: 'bitsandbytes',
    });
    const planned = planSites(nano.checkpoint, nano.architecture, recipe);
    await expect(checkExport(recipe, planned)).rejects.toThrow(/expected nf4/);
  });
});
