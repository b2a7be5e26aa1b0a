import { ggufTokenizer } from '@lmq/checkpoints';
import { jsBackend } from '@lmq/kernels-js';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { ggufModel, loadModel, parseHfConfig, tokenizerFromGguf } from '../src/index.js';
import { CASES, familyCheckpoint, readCase } from './_families.js';
import { throughGguf } from './_gguf.js';
import { lossesOf, maxDifference, nanoGolden, openNano, readJson } from './_support.js';

for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
  it(`${name} computes the same from GGUF: permuted rows, interleaved rotation, stacked experts`, async () => {
    const golden = nanoGolden(name);
    const json = (file: string) => readJson(new URL(file, NANO_MODELS[name].folder));
    const { checkpoint, architecture: original } = await openNano(name);
    const { entries } = ggufTokenizer({
      config: json('config.json'),
      tokenizer: json('tokenizer.json'),
      tokenizerConfig: json('tokenizer_config.json'),
      generationConfig: json('generation_config.json'),
      size: original.vocab,
    });
    const { gguf, architecture } = await throughGguf(checkpoint, original, entries);
    expect(architecture.tied).toBe(name === 'lmq-nano');
    const model = await loadModel({ checkpoint: gguf, architecture, backend: await wasmBackend() });
    const s = model.backend.scope();
    const { data } = await s.read(await model.forward(s, golden.prompt_ids));
    const { nll, argmax } = lossesOf(data, architecture.vocab, golden.prompt_ids);
    expect(maxDifference(nll, golden.nll)).toBeLessThan(1e-3); // as in forward.test.ts
    expect(argmax).toEqual(golden.argmax);
    const tokenizer = tokenizerFromGguf(gguf.metadata);
    expect(tokenizer.encode(tokenizer.decode(golden.prompt_ids), { bos: true })).toEqual(golden.prompt_ids);
    model.dispose();
  });
}

describe('every family computes from GGUF what transformers computes', () => {
  const describeModel = (golden: ReturnType<typeof readCase>) =>
    parseHfConfig(golden.config, (name) => Object.hasOwn(golden.tensors, name));
  const REFUSED = ['llama-yarn-mscale']; // it does not round the ends of YaRN's ramp, llama.cpp does

  it.each(CASES.filter((name) => !REFUSED.includes(name)))('%s', async (name) => {
    const golden = readCase(name);
    const { gguf, architecture } = await throughGguf(familyCheckpoint(golden), describeModel(golden));
    // where llama.cpp cannot slide the window, the file's context ends with it
    const reach = Math.min(golden.ids.length, architecture.context);
    expect(reach).toBe({ mistral: 8, mixtral: 6, qwen2: 8 }[name] ?? 24);
    const model = await loadModel({ checkpoint: gguf, architecture, backend: jsBackend() });
    const s = model.backend.scope();
    const { data } = await s.read(await model.forward(s, golden.ids.slice(0, reach)));
    // theta, eps and the factors of llama3 are float32 in the file
    expect(maxDifference(data, golden.logits.slice(0, reach * 64))).toBeLessThan(1e-4);
    model.dispose();
  });

  it.each(REFUSED)('but %s, which llama.cpp would compute otherwise', (name) => {
    expect(() => ggufModel(describeModel(readCase(name)), { fileType: 'f16' })).toThrow(
      expect.objectContaining({ code: 'export/unsupported' }),
    );
  });
});
