// At 2 bits perplexity is chaotic, so here every linear gets the inputs it has in the original model, and its loss is compared with a
// float32 restatement of the reference (tools/golden_gptq.py).
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { openNano } from './_nano.js';

interface Golden {
  rows: {
    settings: { bits: number; sym: boolean; groupsize: number; actorder: boolean; static: boolean };
    losses: Record<string, number>;
  }[];
}
const golden: Golden = JSON.parse(readFileSync(new URL('golden/nano-gptq-2bit.json', import.meta.url), 'utf8'));

describe('2-bit GPTQ losses, linear by linear', () => {
  let nano: Awaited<ReturnType<typeof openNano>>;
  beforeAll(async () => {
    nano = await openNano();
  });

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
    // one block at a time: the blocks before it stay as they are, so its inputs are those of the original model
    for (const layer of [0, 3]) {
      const others = [0, 1, 2, 3].filter((l) => l !== layer).map((l) => ({ match: `*.layers.${l}.*`, skip: true }));
      const { layers } = await nano.quantize({ stages: [stage], overrides: others });
      expect(layers).toHaveLength(7);
      for (const { name, loss } of layers) {
        expect.soft(Math.abs(loss! / losses[name]! - 1), `${name}: ${loss} against ${losses[name]}`).toBeLessThan(0.02);
      }
    }
  });
});
