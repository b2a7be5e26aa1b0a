// What the tests share: our forward pass and llama.cpp's (through node-llama-cpp), as log probabilities of the same tokens.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { jsBackend } from '../packages/kernels-js/dist/index.js';
import { loadModel } from '../packages/model/dist/index.js';
import { openModel } from '../packages/pipeline/dist/node.js';

export const TOP = 10; // tokens compared at each position

export const startLlama = () => getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, progressLogs: false });

/** Natural logarithms of the probabilities. */
export function logProbabilities(logits) {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = max + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return Array.from(logits, (x) => x - lse);
}

export const ranked = (p) => p.map((_, i) => i).sort((a, b) => p[b] - p[a]);

/** Mean and largest |Δ log p| over the likeliest tokens of `a`. */
export function distance(a, b) {
  let sum = 0;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    for (const id of ranked(a[i]).slice(0, TOP)) {
      const d = Math.abs(a[i][id] - b[i][id]);
      sum += d;
      worst = Math.max(worst, d);
    }
  }
  return { mean: sum / (a.length * TOP), worst };
}

/** Ours after each of `ids`; `path` is a model in any format. */
export async function ours(path, backend, ids) {
  const opened = await openModel(path);
  const model = await loadModel({ ...opened, backend });
  const s = backend.scope();
  const logits = await s.read(await model.forward(s, ids));
  s.dispose();
  model.dispose();
  await opened.close();
  const [rows, cols] = logits.shape;
  return Array.from({ length: rows }, (_, r) => logProbabilities(logits.data.subarray(r * cols, (r + 1) * cols)));
}

/** Theirs after each of `ids`. */
export async function theirs(llama, path, ids) {
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({ contextSize: 512, threads: 1 }); // more threads would spin against each other on a busy machine
  const sequence = context.getSequence();
  const ask = (id) => [id, { generateNext: { logits: true, token: true, options: { temperature: 0 } } }];
  const answers = await sequence.controlledEvaluate(ids.map(ask));
  const vectors = answers.map(({ next: { logits } }) => {
    const out = new Array(logits.size);
    for (const [id, x] of logits) out[id] = x;
    return logProbabilities(out);
  });
  await context.dispose();
  await model.dispose();
  return vectors;
}

/**
 * A kernels-js backend that rounds the inputs of linears as llama.cpp does for block-quantized weights: to 8 bits, so many columns to a scale
 * (32 for types of 32, 256 for the others).
 */
export function roundingBackend(blockOf) {
  const backend = jsBackend();
  const plainScope = backend.scope;
  backend.scope = (opts) => {
    const s = plainScope(opts);
    const plainLinear = s.linear;
    s.linear = (x, w) => {
      const block = blockOf(w);
      if (!block) return plainLinear(x, w);
      const c = s.copy(x);
      for (let from = 0; from < c.buffer.length; from += block) {
        const run = c.buffer.subarray(from, from + block); // kernels-js handles lie over a Float32Array
        const step = run.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 127;
        if (step > 0) for (let i = 0; i < run.length; i++) run[i] = Math.round(run[i] / step) * step;
      }
      return plainLinear(c, w);
    };
    return s;
  };
  return backend;
}
