// Outliers as OPT has them, planted in lmq-nano without changing what it computes; recipes as users write them, from folder to folder. Figures
// of all methods: docs/outliers.md.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { perplexity } from '@lmq/eval';
import { loadModel } from '@lmq/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readOptMaxima } from '../../equalize/test/_opt-maxima.mjs';
import { optFactors, plantOutliers } from '../bench/_planted.mjs';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { overlay } from '../src/overlay.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const maxima = readOptMaxima('opt-1.3b');
if (!maxima) console.warn('skipped: ../shared/stats is absent');

describe.skipIf(!maxima)('lmq-nano with the outliers of OPT, a hundred times the median', () => {
  const int8 = (input?: string) => ({ method: 'rtn', bits: 8, symmetric: true, preset: 'smoothquant', scaleFormat: 'fp32', input });
  const smooth = { method: 'smoothquant', alpha: 0.5 };
  const calibration = [windows[0]!.slice(0, 128)];
  let nano: Awaited<ReturnType<typeof openNano>>;
  let planted: OpenModel;
  let dir: string;
  let serial = 0;

  async function write(source: OpenModel, stages: object[], target = 'lmq') {
    const output = join(dir, String(serial++));
    await quantizeModel(source, { backend: nano.backend, recipe: parseRecipe({ stages, export: target }), calibration, output });
    return openModel(output);
  }
  async function evaluate(model: OpenModel) {
    const loaded = await loadModel({ ...model, backend: nano.backend });
    try {
      return (await perplexity(loaded, nano.ids, { context: 256, windows: 2 })).perplexity;
    } finally {
      loaded.dispose();
    }
  }
  async function after(source: OpenModel, ...stages: object[]) {
    const result = await write(source, stages);
    try {
      return await evaluate(result);
    } finally {
      await result.close();
    }
  }

  beforeAll(async () => {
    nano = await openNano();
    dir = await mkdtemp(join(tmpdir(), 'lmq-outliers-'));
    const changed = await plantOutliers(nano, optFactors(maxima!, nano.architecture, 1.5));
    planted = await write({ ...nano, checkpoint: overlay(nano.checkpoint, changed) }, [], 'safetensors');
  });
  afterAll(async () => {
    await planted?.close();
    await nano?.close();
    if (dir) await rm(dir, { recursive: true });
  });

  it('computes what it did', async () => {
    expect((await evaluate(planted)) / (await evaluate(nano))).toBeCloseTo(1, 6);
  });

  it.each([
    ['int8-token', 1.03],
    ['int8-tensor', 2],
    ['int8-static', 2],
  ] as const)('%s: naive inputs fail, SmoothQuant makes it the model without outliers again', async (input, loss) => {
    const smoothed = await after(planted, smooth, int8(input));
    expect(await after(planted, int8(input))).toBeGreaterThan(loss * smoothed);
    // Scales x^α / w^(1 - α) grow with a factor that multiplies x and divides w: they undo it, whatever α is. What is left are other roundings,
    // 0.1 % on 40 windows of 512 tokens, up to 1 % on these few.
    expect(Math.abs(smoothed / (await after(nano, smooth, int8(input))) - 1)).toBeLessThan(0.03);
  });

  it('LLM.int8() loses what 8-bit weights lose, and no more', async () => {
    const weights = await after(planted, int8());
    expect(await after(planted, int8('llm-int8'))).toBeLessThan(1.01 * weights);
  });

  it('in 3 bits: plain rounding loses more than without outliers, AWQ gets it back', async () => {
    const rtn = { method: 'rtn', bits: 3, groupSize: 128, preset: 'awq' };
    const untouched = await after(nano, rtn);
    expect(await after(planted, rtn)).toBeGreaterThan(1.05 * untouched);
    expect(await after(planted, { method: 'awq' }, rtn)).toBeLessThan(untouched);
  });
});
