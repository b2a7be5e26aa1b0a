// At 2 bits perplexity is chaotic, so here every linear gets the inputs it has in the original model, from saved statistics, and its loss is
// compared with a float32 restatement of the reference (tools/golden_gptq.py).
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import type { Statistics } from '../src/statistics.js';
import { openNano, windows } from './_nano.js';

interface Golden {
  rows: {
    settings: { bits: number; sym: boolean; groupsize: number; actorder: boolean; static: boolean };
    losses: Record<string, number>;
  }[];
}
const golden: Golden = JSON.parse(readFileSync(new URL('golden/nano-gptq-2bit.json', import.meta.url), 'utf8'));
const dir = mkdtempSync(join(tmpdir(), 'lmq-losses-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('2-bit GPTQ losses, linear by linear', () => {
  let nano: Awaited<ReturnType<typeof openNano>>;
  let statistics: Statistics;
  beforeAll(async () => {
    nano = await openNano();
    const output = join(dir, 'statistics.safetensors');
    await calibrateModel(nano, { backend: nano.backend, calibration: windows, output });
    statistics = await openStatisticsFile(output, nano);
  }, 120_000);
  afterAll(() => statistics.close());

  it.each(golden.rows)('$settings', async ({ settings: s, losses }) => {
    const stage = {
      method: 'gptq',
      bits: s.bits,
      symmetric: s.sym,
      groupSize: s.groupsize,
      actOrder: s.actorder,
      staticGroups: s.static,
      scaleFormat: 'fp32',
      referenceCompat: true,
    };
    let compared = 0;
    for await (const block of quantizeBlocks({ ...nano, recipe: parseRecipe({ stages: [stage] }), statistics })) {
      for (const { name, loss } of block.layers) {
        expect.soft(Math.abs(loss! / losses[name]! - 1), `${name}: ${loss} against ${losses[name]}`).toBeLessThan(0.02);
        compared++;
      }
    }
    expect(compared).toBe(28);
  });
});
