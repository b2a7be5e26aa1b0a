import { jsBackend } from '@lmq/kernels-js';
import { wasmBackend } from '@lmq/kernels-wasm';
import type { Model } from '@lmq/model';
import { NANO_MODELS, passkey as passkeyUrl } from '@lmq/nano';
import type { Dense } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compare, type PasskeyDocument, passkey, perplexity, windowLosses } from '../src/index.js';
import { hasShared, loadNano, readJson, SHARED, SKIP_NOTE, validationIds } from './_support.js';

describe('lmq-nano', () => {
  const ids = validationIds();
  let wasm: Model;
  beforeAll(async () => {
    wasm = await loadNano('lmq-nano', await wasmBackend());
  });
  afterAll(() => wasm.dispose());

  for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
    it(`${name}: perplexity of the first 40 windows is the golden one`, async () => {
      const golden = readJson(new URL('golden.json', NANO_MODELS[name].folder)).valid_ppl_window512_first40_no_bos;
      const model = name === 'lmq-nano' ? wasm : await loadNano(name, await wasmBackend());
      const r = await perplexity(model, ids, { context: 512, windows: 40 });
      expect(r).toMatchObject({ tokens: 40 * 511, context: 512, windows: 40 });
      // The golden run used less precise matrix products (TF32, 10 bits): some 1e-4 of the mean loss, 3e-3 of the perplexity.
      expect(Math.abs(r.perplexity - golden)).toBeLessThan(0.01);
      if (model !== wasm) model.dispose();
    });
  }

  it('kernels-js and kernels-wasm agree on two short windows', async () => {
    const js = await loadNano('lmq-nano', jsBackend());
    for (const from of [0, 512]) {
      const window = ids.slice(from, from + 256);
      const a = await windowLosses(js, window);
      const b = await windowLosses(wasm, window);
      let worst = 0;
      for (let t = 0; t < a.length; t++) worst = Math.max(worst, Math.abs(a[t]! - b[t]!));
      expect(a.length).toBe(255);
      expect(worst).toBeLessThan(1e-4); // double against float32 sums of at most 640 terms
    }
    js.dispose();
  });

  it('against itself: no divergence, full agreement, the same perplexity', async () => {
    const r = await compare(wasm, wasm, ids, { context: 128, windows: 2 });
    expect(r).toMatchObject({ kl: 0, top1: 1, tokens: 254 });
    expect(r.perplexity).toBe(r.base.perplexity);
    expect(r.nll).toBe((await perplexity(wasm, ids, { context: 128, windows: 2 })).nll);
  });

  it('a damaged model diverges', async () => {
    const damaged = await loadNano('lmq-nano', wasm.backend);
    const zeros: Dense = { kind: 'dense', shape: [256, 640], format: 'fp32', data: new Float32Array(256 * 640) };
    damaged.blocks[1]!.setLinear('model.layers.1.mlp.down_proj', { weight: zeros });
    const r = await compare(damaged, wasm, ids, { context: 128, windows: 2 });
    expect(r.kl).toBeGreaterThan(0.01);
    expect(r.top1).toBeLessThan(1);
    expect(r.perplexity).toBeGreaterThan(r.base.perplexity);
    damaged.dispose();
  });

  it('finds the pass keys that ship with it', async () => {
    const { documents } = readJson(passkeyUrl) as { documents: PasskeyDocument[] };
    expect(await passkey(wasm, documents.slice(0, 10))).toMatchObject({ accuracy: 1, correct: 10, total: 10, tokenAccuracy: 1 });
  });

  it.skipIf(!hasShared)(
    `finds every fourth of the 100 pass keys of the reference, which finds all${SKIP_NOTE}`,
    async () => {
      const { prompts } = readJson(new URL('golden/nano-passkey.json', SHARED)) as { prompts: PasskeyDocument[] };
      expect(prompts).toHaveLength(100);
      expect(
        await passkey(
          wasm,
          prompts.filter((_, i) => i % 4 === 0),
        ),
      ).toMatchObject({ correct: 25, total: 25 });
    },
    600_000,
  );
});
