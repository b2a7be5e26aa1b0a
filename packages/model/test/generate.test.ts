import { wasmBackend } from '@lmq/kernels-wasm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GenerateOpts, generate, loadModel, type Model } from '../src/index.js';
import { BACKENDS, nanoGolden, openNano, readJson } from './_support.js';

const collect = async (model: Model, ids: ArrayLike<number>, opts: GenerateOpts) => {
  const out: number[] = [];
  for await (const id of generate(model, ids, opts)) out.push(id);
  return out;
};

for (const [variant, make] of Object.entries(BACKENDS)) {
  for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
    it(`greedy text of ${name} on ${variant} is the float64 one`, async () => {
      const ids: number[] = readJson(new URL('golden/greedy.json', import.meta.url))[name];
      const prompt = 13; // "It was a dark and stormy night, and the" with the begin token
      expect(ids.length - prompt).toBe(60);
      const model = await loadModel({ ...(await openNano(name)), backend: await make() });
      expect(await collect(model, ids.slice(0, prompt), { maxTokens: 60 })).toEqual(ids.slice(prompt));
      model.dispose();
      // golden.json's text, made with less precise products, is the same up to a near tie: see golden/make.py
      const same = name === 'lmq-nano' ? prompt + 30 : ids.length;
      expect(ids.slice(0, same)).toEqual(nanoGolden(name).greedy_ids.slice(0, same));
    });
  }
}

describe('generate', () => {
  let model: Model;
  const prompt = nanoGolden('lmq-nano').greedy_ids.slice(0, 9);
  beforeAll(async () => {
    model = await loadModel({ ...(await openNano('lmq-nano')), backend: await wasmBackend() });
  });
  afterAll(() => model.dispose());

  it('is repeated by its seed', async () => {
    const opts = { maxTokens: 12, temperature: 1, topK: 50, topP: 0.95 };
    const first = await collect(model, prompt, { ...opts, seed: 3 });
    expect(await collect(model, prompt, { ...opts, seed: 3 })).toEqual(first);
    expect(await collect(model, prompt, { ...opts, seed: 4 })).not.toEqual(first);
    expect(first.length).toBe(12);
  });

  it('stops at a stop token without giving it', async () => {
    const whole = await collect(model, prompt, { maxTokens: 6 });
    const at = whole.findIndex((id, i) => i > 1 && whole.indexOf(id) === i);
    expect(await collect(model, prompt, { maxTokens: 6, stop: [whole[at]!] })).toEqual(whole.slice(0, at));
  });

  it('stops when aborted', async () => {
    const stop = new AbortController();
    const seen: number[] = [];
    const reading = async () => {
      for await (const id of generate(model, prompt, { maxTokens: 50, signal: stop.signal })) {
        seen.push(id);
        if (seen.length === 3) stop.abort(new Error('enough'));
      }
    };
    await expect(reading()).rejects.toThrow('enough');
    expect(seen.length).toBe(3);
  });

  it('refuses at the call what does not fit', () => {
    expect(() => generate(model, prompt, { maxTokens: 1016 })).toThrow(/at most 1024 tokens.*9 \+ 1016.*at most 1015/);
    expect(() => generate(model, [], { maxTokens: 1 })).toThrow(expect.objectContaining({ code: 'argument/value' }));
    expect(() => generate(model, prompt, { maxTokens: 0 })).toThrow(expect.objectContaining({ code: 'argument/option' }));
    expect(() => generate(model, prompt, { maxTokens: 1, topP: 2 })).toThrow(expect.objectContaining({ code: 'argument/option' }));
  });

  it('fills the context to its last position', async () => {
    const long = Array.from({ length: 1022 }, (_, i) => prompt[i % prompt.length]!);
    expect((await collect(model, long, { maxTokens: 2 })).length).toBe(2);
  });
});
