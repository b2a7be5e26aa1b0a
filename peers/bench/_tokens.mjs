// Prompt and decode speed of engines that have one GGUF file loaded, in turns. Shared by tokens.mjs and the page.
import { openGguf } from '../../packages/checkpoints/dist/index.js';
import { loadModel, parseGgufConfig } from '../../packages/model/dist/index.js';
import { createRng } from '../../packages/tensor/dist/index.js';
import { clocks, summary, time } from './_time.mjs';

/** Largest |Δ ln p| from lmq's float32 of an engine's likeliest token: rounded inputs and half-precision caches, not another model. */
const TOLERANCE = 0.7;

/** lmq on an open source of bytes. */
export async function lmqModel(source, backend, activations) {
  const checkpoint = await openGguf(source);
  const architecture = parseGgufConfig(checkpoint.metadata, (t) => checkpoint.tensors.has(t));
  const model = await loadModel({ checkpoint, architecture, backend, activations });
  await checkpoint.close();
  let cache;
  let logits;
  const forward = async (ids) => {
    const s = backend.scope();
    logits = (await s.read(await model.forward(s, ids, { cache, lastOnly: true }))).data;
    s.dispose();
  };
  const logProbability = (token) => {
    const max = logits.reduce((a, b) => Math.max(a, b));
    return logits[token] - max - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
  };
  return {
    name: `lmq ${backend.variant}, ${activations} inputs`,
    vocab: architecture.vocab,
    async prompt(ids, context) {
      cache?.dispose();
      cache = model.createCache(context);
      await forward(ids);
    },
    next: (id) => forward([id]),
    logProbability,
    async likeliest() {
      const token = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
      return { token, logProbability: logProbability(token) };
    },
  };
}

/**
 * Times engines, lmq with float32 inputs first: `{ name, vocab, prompt(ids, context), next(id), likeliest() }`. `prompt` starts anew.
 * Decoded tokens are given, so that all engines decode the same.
 */
export async function measureTokens(engines, { prompt = 128, decoded = 32, rounds = 5, print }) {
  const rng = createRng(1);
  const ids = Array.from({ length: prompt + decoded }, () => rng.below(engines[0].vocab));
  const round = async (e) => {
    const first = await time(() => e.prompt(ids.slice(0, prompt), ids.length));
    const then = await time(async () => {
      for (const id of ids.slice(prompt)) await e.next(id);
    });
    return [first, then];
  };
  for (const e of engines) {
    await round(e); // warm
    const { token, logProbability } = await e.likeliest();
    const off = Math.abs(logProbability - engines[0].logProbability(token));
    if (!(off <= TOLERANCE)) throw new Error(`${e.name} computes another model: token ${token} differs by ${off} in ln p`);
  }
  const times = engines.map(() => [[], []]);
  for (let r = 0; r < rounds; r++) {
    for (const [k, e] of engines.entries()) for (const [i, t] of (await round(e)).entries()) times[k][i].push(t);
  }
  print(
    `${prompt} prompt tokens, ${decoded} decoded, ${rounds} rounds in turns; tokens per second of ${clocks().join(' and ')} time: median (best)`,
  );
  for (const [k, e] of engines.entries()) {
    const cells = [prompt, decoded].map((tokens, i) => {
      const rates = clocks().map((clock) => {
        const { median, best } = summary(times[k][i], clock);
        return `${(tokens / median).toFixed(1)} (${(tokens / best).toFixed(1)})`.padStart(16);
      });
      return `   ${i ? 'decode' : 'prompt'}${rates.join('')}`;
    });
    print(`  ${e.name.padEnd(34)}${cells.join('')}`);
  }
}
