import { jsBackend } from '@lmq/kernels-js';
import type { Backend, ProgressEvent } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ForwardOpts, loadModel, type Model } from '../src/index.js';
import { maxDifference, nanoGolden, openNano } from './_support.js';

const run = async (model: Model, ids: ArrayLike<number>, opts?: ForwardOpts) => {
  const s = model.backend.scope();
  try {
    return (await s.read(await model.forward(s, ids, opts))).data;
  } finally {
    s.dispose();
  }
};

describe('model', () => {
  const models = {} as Record<'lmq-nano' | 'lmq-nano-moe', Model>;
  const events: ProgressEvent[] = [];
  let backend: Backend;
  beforeAll(async () => {
    backend = jsBackend();
    models['lmq-nano'] = await loadModel({ ...(await openNano('lmq-nano')), backend, onProgress: (e) => events.push(e) });
    models['lmq-nano-moe'] = await loadModel({ ...(await openNano('lmq-nano-moe')), backend });
  });

  it('reports progress to the end', () => {
    expect(events.map((e) => e.done)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(events.at(-1)).toMatchObject({ phase: 'load', total: 5, layer: 'layers.3' });
  });

  it('counts its bytes: bf16 linears and tied embeddings once, float32 norms', () => {
    const perBlock = 2 * (256 * 256 * 2 + 64 * 256 * 2 + 3 * 640 * 256) + 4 * 512;
    expect(models['lmq-nano'].bytes).toBe(2 * 2048 * 256 + 4 * perBlock + 4 * 256);
  });

  for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
    it(`${name}: a cache fed in steps equals one pass`, async () => {
      const model = models[name];
      const ids = nanoGolden(name).prompt_ids.slice(0, 24);
      const whole = await run(model, ids);
      const cache = model.createCache(24);
      const parts: number[] = [];
      for (const [from, to] of [
        [0, 7],
        [7, 8],
        [8, 9],
        [9, 24],
      ] as const) {
        expect(cache.length).toBe(from);
        parts.push(...(await run(model, ids.slice(from, to), { cache })));
      }
      // The js kernels compute each row alone, in the same order: only -0 + 0 in the cache may differ, which no sum shows.
      expect(maxDifference(parts, whole)).toBe(0);
      await expect(run(model, [1], { cache })).rejects.toMatchObject({ code: 'argument/value' }); // full
      cache.dispose();
    });
  }

  it('lastOnly is the last row', async () => {
    const ids = nanoGolden('lmq-nano').prompt_ids.slice(0, 9);
    const whole = await run(models['lmq-nano'], ids);
    expect([...(await run(models['lmq-nano'], ids, { lastOnly: true }))]).toEqual([...whole.subarray(-2048)]);
  });

  it('taps see the input of every site, with the width of its weight', async () => {
    for (const model of Object.values(models)) {
      const { sites, moe, topK } = { ...model.architecture, topK: model.architecture.moe?.topK ?? 0 };
      const rows = new Map<string, number>();
      const widths = new Map<string, number>();
      const ids = nanoGolden('lmq-nano').prompt_ids.slice(0, 40);
      await run(model, ids, {
        tap: (input, x) => {
          expect(rows.has(input)).toBe(false);
          rows.set(input, x.rows);
          widths.set(input, x.cols);
        },
      });
      for (const site of sites) {
        if (!rows.has(site.input)) {
          expect(site.expert).toBeDefined(); // an expert that no token chose
          continue;
        }
        expect(widths.get(site.input)).toBe(model.blocks[site.layer]!.at(site.role, site.expert).loaded.in);
        if (site.expert === undefined) expect(rows.get(site.input)).toBe(ids.length);
      }
      expect(new Set(sites.map((s) => s.input)).size).toBeGreaterThanOrEqual(rows.size);
      if (!moe) continue;
      for (let l = 0; l < model.architecture.layers; l++) {
        let sum = 0;
        for (let e = 0; e < moe.experts; e++) sum += rows.get(`layers.${l}.experts.${e}.mlp`) ?? 0;
        expect(sum).toBe(ids.length * topK);
      }
    }
  });

  it('refuses ids it cannot read', async () => {
    const model = models['lmq-nano'];
    await expect(run(model, [])).rejects.toMatchObject({ code: 'argument/value' });
    await expect(run(model, [0, 2048])).rejects.toThrow(/ids\[1\].*0 … 2047.*2048/);
    await expect(run(model, [0.5])).rejects.toMatchObject({ code: 'argument/value' });
    await expect(run(model, new Int32Array(1025))).rejects.toThrow(/at most 1024 positions.*1025/);
    expect(() => model.createCache(1025)).toThrow(expect.objectContaining({ code: 'argument/option' }));
  });

  it('a stopped forward pass leaves a cache that says so', async () => {
    const model = models['lmq-nano'];
    const cache = model.createCache(8);
    const stop = new AbortController();
    const s = backend.scope({ signal: stop.signal });
    const tap = (input: string) => input === 'layers.1.o' && stop.abort(new Error('enough'));
    await expect(model.forward(s, [0, 1], { cache, tap })).rejects.toThrow('enough');
    s.dispose();
    await expect(run(model, [0, 1], { cache })).rejects.toThrow(/create a new one/i);
    cache.dispose();
  });

  it('stops loading when asked to', async () => {
    const stop = new AbortController();
    const opened = await openNano('lmq-nano');
    const reason = new Error('stop');
    const onProgress = (e: ProgressEvent) => e.done === 2 && stop.abort(reason);
    await expect(loadModel({ ...opened, backend, signal: stop.signal, onProgress })).rejects.toBe(reason);
  });

  it('setLinear changes one site and checks the shape', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano');
    const model = await loadModel({ checkpoint, architecture, backend });
    const ids = [0, 5, 9, 33];
    const before = await run(model, ids);
    const block = model.blocks[2]!;
    const name = 'model.layers.2.mlp.down_proj';
    const weight = await checkpoint.read(`${name}.weight`);
    if (weight.kind !== 'dense') throw new Error('dense expected');
    block.setLinear(name, { weight: { ...weight, data: new Uint16Array(weight.data.length) } });
    expect(maxDifference(await run(model, ids), before)).toBeGreaterThan(0.01);
    block.setLinear(name, { weight });
    expect(maxDifference(await run(model, ids), before)).toBe(0);
    expect(() => block.setLinear(name, { weight: { ...weight, shape: [640, 256] } })).toThrow(/256 x 640.*640 x 256/);
    expect(() => block.setLinear('model.layers.0.mlp.down_proj', { weight })).toThrow(expect.objectContaining({ code: 'argument/option' }));
    model.dispose();
    await expect(run(model, ids)).rejects.toMatchObject({ code: 'handle/freed' });
  });
});
