// The whole path in memory: open the built-in model, quantize it with GPTQ, compare it with the original, let it speak.
import { readFile } from 'node:fs/promises';
import { compare } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { generate, loadModel } from '@lmq/model';
import { calibration } from '@lmq/nano';
import { modelSize, overlay, parseRecipe, quantizeBlocks } from '@lmq/pipeline';
import { openModel, readTokens } from '@lmq/pipeline/node';

const backend = await wasmBackend();
const opened = await openModel('lmq-nano');
const recipe = parseRecipe({ stages: [{ method: 'gptq', bits: 4, groupSize: 64 }] });
const windows = JSON.parse(await readFile(calibration, 'utf8')).slice(0, 8);

const weights = new Map();
for await (const block of quantizeBlocks({ ...opened, backend, recipe, calibration: windows })) {
  for (const [name, t] of block.weights) weights.set(name, t);
  console.log(`block ${block.layer}: error ${block.layers.map((l) => l.error.toExponential(1)).join(' ')}`);
}

const quantized = overlay(opened.checkpoint, weights);
const [base, small] = await Promise.all([opened.checkpoint, quantized].map((checkpoint) => loadModel({ ...opened, checkpoint, backend })));
const text = await readTokens(opened.builtIn.validation, opened.tokenizer, opened.architecture.vocab);
const { perplexity, base: before, kl } = await compare(small, base, text.ids, { context: 512, windows: 4 });
const { bytes } = modelSize(quantized, opened.architecture);
console.log(`perplexity ${before.perplexity.toFixed(2)} → ${perplexity.toFixed(2)}, KL ${kl.toFixed(4)}, ${(bytes / 1e6).toFixed(2)} MB`);

const ids = opened.tokenizer.encode('It was a dark and stormy night, and the', { bos: true });
const answer = [];
for await (const id of generate(small, ids, { maxTokens: 30 })) answer.push(id);
console.log(opened.tokenizer.decode([...ids, ...answer]));
