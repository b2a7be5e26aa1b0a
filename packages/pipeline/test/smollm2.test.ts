// A real model from end to end: SmolLM2-135M-Instruct as a GGUF file of Q4_1 and Q8_0 blocks. tools/fetch-smollm2.sh fetches it; skipped
// without. Expected ids and numbers are llama.cpp's (through node-llama-cpp 3), on this file or on its weights written out as F32. On
// blocks llama.cpp rounds the inputs of a linear to 8 bits, which moves log probabilities by 0.07 on average and 0.4 at most; on F32 it
// differs from this repository by 0.0008 on average and 0.006 at most.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { generate, loadModel, type Model } from '@lmq/model';
import { validation } from '@lmq/nano';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { readTokens } from '../src/_node/read-tokens.js';

const path = process.env.LMQ_SMOLLM2 || fileURLToPath(new URL('../../../models/smollm2-135m.gguf', import.meta.url));
const there = existsSync(path);
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';

// biome-ignore format: rows of ids
const TEXTS: [text: string, ids: number[]][] = [
  ["Hello, world! 12345 isn't 3.14", [19556, 28, 905, 17, 216, 33, 34, 35, 36, 37, 3247, 982, 216, 35, 30, 33, 36]],
  ['naïve café — “quotes” … 你好 🙂', [3546, 46494, 37366, 1841, 619, 385, 2346, 573, 5548, 216, 18645, 250, 48392, 138, 47526]],
  ['  two  spaces\n\n\ttab', [216, 827, 216, 5600, 1116, 197, 15999]],
  ['def f(x):\n    return x**2', [1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34]],
];

/**
 * Greedy continuations, cut before the first choice that the difference in arithmetic (above) could turn over. `lead` is the smallest lead
 * of a choice over the second, as log probability.
 */
const GREEDY: { prompt: string; of: string; lead: number; ids: number[] }[] = [
  {
    prompt: '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n',
    of: 'this file',
    lead: 1.5,
    ids: [504, 3575, 282, 4649, 314, 7042, 30, 2],
  },
  { prompt: '1, 2, 3, 4, 5,', of: 'this file', lead: 2.8, ids: [216, 38, 28, 216, 39, 28, 216, 40, 28, 216, 41, 28, 216, 33, 32] },
  {
    prompt: 'Once upon a time, there was a',
    of: 'the same weights as F32',
    lead: 0.16,
    ids: [1165, 3102, 32047, 281, 260, 1911, 282, 253, 14055, 2240, 30, 378, 3102, 436, 1343, 327, 624],
  },
];

describe.skipIf(!there)(`SmolLM2-135M${there ? '' : ' (no file: run tools/fetch-smollm2.sh, or set LMQ_SMOLLM2)'}`, () => {
  let opened: OpenModel;
  let model: Model;
  beforeAll(async () => {
    opened = await openModel(path);
    model = await loadModel({ ...opened, backend: await wasmBackend() });
  });
  afterAll(async () => {
    model?.dispose();
    await opened?.close();
  });

  it('is the file that the numbers are of', async () => {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
    expect(hash.digest('hex')).toBe(SHA256);
  });

  it('is all Q4_1 but for the embedding and the norms', () => {
    const count: Record<string, number> = {};
    for (const t of opened.checkpoint.tensors.values()) count[t.format] = (count[t.format] ?? 0) + 1;
    expect(count).toEqual({ Q4_1: 210, Q8_0: 1, fp32: 61 });
    expect(opened.architecture).toMatchObject({ family: 'llama', layers: 30, hidden: 576, heads: 9, kvHeads: 3, tied: true });
  });

  it.each(TEXTS)('tokenizes as llama.cpp does, and back: %j', (text, ids) => {
    expect([...opened.tokenizer!.encode(text)]).toEqual(ids);
    expect(opened.tokenizer!.decode(ids)).toBe(text);
  });

  it('predicts a novel as well as llama.cpp does with the same weights as F32', async () => {
    const tokens = await readTokens(fileURLToPath(validation), opened.tokenizer, opened.architecture.vocab);
    if (!('ids' in tokens)) return expect.fail('no stream of tokens');
    const found = await perplexity(model, tokens.ids, { context: 512, windows: 2 });
    expect(found.tokens).toBe(1022);
    // 38.6506 with F32, 38.775 on this file. Half a percent is what moves between those two, and far below what a wrong weight would do
    expect(Math.abs(found.perplexity / 38.6506 - 1)).toBeLessThan(0.005);
  });

  it.each(GREEDY)('continues as llama.cpp does on $of: $prompt', async ({ prompt, ids }) => {
    const found: number[] = [];
    for await (const id of generate(model, opened.tokenizer!.encode(prompt), { maxTokens: ids.length })) found.push(id);
    expect(found).toEqual(ids);
  });
});
