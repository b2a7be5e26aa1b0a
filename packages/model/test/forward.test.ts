import { describe, expect, it } from 'vitest';
import { loadModel, type Model, type Routes } from '../src/index.js';
import {
  BACKENDS,
  type Golden,
  hasShared,
  lossesOf,
  maxDifference,
  nanoGolden,
  type Opened,
  openFolder,
  openGgufFile,
  openNano,
  readJson,
  SHARED,
  SKIP_NOTE,
} from './_support.js';

// The golden values are float64 arithmetic on the stored weights. Float32 rounding through four layers moves logits by some 1e-5 of their
// size (up to 14): 1e-3 leaves room for another order of summation and none for a wrong formula.
const TOLERANCE = 1e-3;

async function logitsOf(model: Model, ids: readonly number[]): Promise<Float32Array> {
  const s = model.backend.scope();
  try {
    return (await s.read(await model.forward(s, ids))).data;
  } finally {
    s.dispose();
  }
}

async function expectGolden(
  opened: Opened,
  make: (typeof BACKENDS)[string],
  golden: Pick<Golden, 'nll' | 'argmax' | 'last_logits'>,
  ids: number[],
) {
  const { vocab } = opened.architecture;
  const model = await loadModel({ ...opened, backend: await make() });
  try {
    const logits = await logitsOf(model, ids);
    expect(logits.length).toBe(ids.length * vocab);
    const { nll, argmax } = lossesOf(logits, vocab, ids);
    expect(maxDifference(nll, golden.nll)).toBeLessThan(TOLERANCE);
    expect(maxDifference(logits.subarray(-vocab), golden.last_logits)).toBeLessThan(TOLERANCE);
    expect(argmax).toEqual(golden.argmax);
  } finally {
    model.dispose();
  }
}

for (const [variant, make] of Object.entries(BACKENDS)) {
  describe(`forward pass on ${variant}`, () => {
    for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
      it(`${name} equals its float64 golden`, async () => {
        const golden = nanoGolden(name);
        await expectGolden(await openNano(name), make, golden, golden.prompt_ids);
      });
    }

    it('lmq-nano-moe takes the golden routes', async () => {
      const opened = await openNano('lmq-nano-moe');
      const { prompt_ids, routes } = nanoGolden('lmq-nano-moe');
      const model = await loadModel({ ...opened, backend: await make() });
      const seen: Routes['top'][] = [];
      const s = model.backend.scope();
      await model.forward(s, prompt_ids, { onRoutes: (layer, top) => (seen[layer] = top) });
      s.dispose();
      model.dispose();
      expect(seen.map((top) => [...top])).toEqual(routes!.map((layer) => layer.flat()));
    });

    it.skipIf(!hasShared)(`tinystories-656K: embeddings stored as the head, context 512${SKIP_NOTE}`, async () => {
      const golden = readJson(new URL('golden/tinystories-656K.json', import.meta.url));
      const opened = await openFolder(new URL('models/tinystories-656K/', SHARED));
      expect(opened.architecture.warnings).toEqual([expect.stringContaining('lm_head.weight')]);
      await expectGolden(opened, make, golden, golden.ids);
    });

    it.skipIf(!hasShared)(`stories260K: GGUF, interleaved RoPE, SentencePiece${SKIP_NOTE}`, async () => {
      const golden = readJson(new URL('golden/stories260K.json', import.meta.url));
      const opened = await openGgufFile(new URL('models/stories260K/stories260K-f32.gguf', SHARED));
      expect(opened.architecture.rope.style).toBe('interleaved');
      expect(golden.mean_nll).toBeLessThan(1); // a story it finds likely: layout, rotation and tokens belong together
      await expectGolden(opened, make, golden, golden.ids);
    });
  });
}
