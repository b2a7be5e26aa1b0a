// onnxruntime-node and onnxruntime-web compute from our ONNX graphs of every family what transformers computed from the same weights (golden data of
// @lmq/model): at once, token by token over the cache, and in a batch with padding on the left.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as node from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { planOnnx, writeOnnxData } from '../../packages/checkpoints/dist/index.js';
import { writeFileAtomic } from '../../packages/checkpoints/dist/node.js';
import { decode, dense } from '../../packages/formats/dist/index.js';
import { jsBackend } from '../../packages/kernels-js/dist/index.js';
import { loadModel, parseHfConfig } from '../../packages/model/dist/index.js';
import { ONNX_OPSETS, onnxDecoder, overlay } from '../../packages/pipeline/dist/index.js';
import { rtn } from '../../packages/quant-core/dist/index.js';
import { openDecoder } from '../_onnx.mjs';

const GOLDEN = new URL('../../packages/model/test/golden/families/', import.meta.url);
const FAMILIES = readdirSync(GOLDEN).map((f) => f.replace('.json', ''));

/** The golden logits reach 19. Seen: 2e-5, as of our own forward pass. */
const TOLERANCE = 1e-4;

const dir = mkdtempSync(join(tmpdir(), 'lmq-onnx-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** The generator of packages/model/test/golden/make-families.py. */
function weightOf(name, n, family) {
  let s = 2166136261;
  for (const byte of new TextEncoder().encode(name)) s = Math.imul(s ^ byte, 16777619) >>> 0;
  const u = Float32Array.from({ length: n }, () => {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    return (s >>> 8) / 2 ** 24 - 0.5;
  });
  if (name.includes('norm')) return u.map((x) => x / 2 + (family === 'gemma3_text' ? 0 : 1));
  if (name.includes('embed_tokens')) return u.map((x) => 2 * x);
  return name.endsWith('block_sparse_moe.gate.weight') ? u.map((x) => 4 * x) : u;
}

function checkpointOf({ tensors, config }) {
  const info = ([name, shape]) => [name, { name, shape, format: 'fp32', bytes: 0, file: 'computed' }];
  return {
    format: 'safetensors',
    metadata: new Map(),
    tensors: new Map(Object.entries(tensors).map(info)),
    read: async (name) => {
      const cols = tensors[name].at(-1);
      const rows = tensors[name].length === 1 ? 1 : tensors[name][0];
      return dense('fp32', weightOf(name, rows * cols, config.model_type), rows, cols);
    },
    close: async () => {},
  };
}

async function exported(name, change = (checkpoint) => checkpoint) {
  const golden = JSON.parse(readFileSync(new URL(`${name}.json`, GOLDEN), 'utf8'));
  const original = checkpointOf(golden);
  const architecture = parseHfConfig(golden.config, (t) => original.tensors.has(t));
  const checkpoint = await change(original, architecture);
  const graph = await onnxDecoder({ checkpoint, architecture });
  const { model, files } = planOnnx(graph, { opsets: ONNX_OPSETS, dataName: 'model.onnx_data', maxDataBytes: 10_000, producer: 'lmq' });
  assert.ok(files.length > 1); // as of a model beyond 2 GB
  const path = mkdtempSync(join(dir, name));
  await writeFileAtomic(join(path, 'model.onnx'), (sink) => sink.write(model));
  for (const f of files) await writeFileAtomic(join(path, f.name), (sink) => writeOnnxData(sink, f));
  return { golden, path, checkpoint, architecture };
}

/** Largest difference between rows of logits and the golden ones from row `from` on. */
function difference(rows, { logits }, from = 0) {
  const vocab = rows[0].length;
  let worst = 0;
  rows.forEach((row, r) => {
    row.forEach((x, i) => {
      worst = Math.max(worst, Math.abs(x - logits[(from + r) * vocab + i]));
    });
  });
  return worst;
}

const RUNTIMES = [
  ['onnxruntime-node', node, {}],
  ['onnxruntime-web', web, { fromBytes: true }],
];
web.env.wasm.numThreads = 1;

for (const name of FAMILIES) {
  test(name, async (t) => {
    const { golden, path } = await exported(name);
    const { ids } = golden;
    // two sequences, the second shorter by five tokens; positions as transformers.js counts them
    const padding = 5;
    const short = ids.slice(0, ids.length - padding);
    const pads = Array(padding).fill(0);
    const mask = [ids.map(() => 1), [...pads, ...short.map(() => 1)]];
    const positions = [ids.map((_, i) => i), [...pads.map(() => 1), ...short.map((_, i) => i)]];

    for (const [who, ort, opts] of RUNTIMES) {
      const decoder = await openDecoder(ort, path, opts);
      const whole = difference(await decoder.start()([ids]), golden);

      const step = decoder.start();
      let stepped = 0;
      for (const [from, to] of [[0, 5], [5, 16], ...Array.from({ length: 8 }, (_, i) => [16 + i, 17 + i])])
        stepped = Math.max(stepped, difference(await step([ids.slice(from, to)]), golden, from));

      const rows = await decoder.start(2)([ids, [...pads, ...short]], mask, positions);
      const padded = Math.max(difference(rows.slice(0, ids.length), golden), difference(rows.slice(ids.length + padding), golden));

      await decoder.release();
      const show = (x) => x.toExponential(1);
      t.diagnostic(`${who}: largest difference at once ${show(whole)}, stepped ${show(stepped)}, padded ${show(padded)}`);
      assert.ok(Math.max(whole, stepped, padded) < TOLERANCE);
    }
  });
}

/** Every linear and the head, rounded to nearest. */
const rounded = (opts) => async (checkpoint, architecture) => {
  const names = new Set([...architecture.sites.map((s) => s.tensor), ...(architecture.tied ? [] : [architecture.tensors.head])]);
  const weights = new Map();
  for (const name of names) weights.set(name, rtn(decode(await checkpoint.read(name)), opts).weight);
  return overlay(checkpoint, weights);
};

// biases behind quantized linears, a quantized head, parts of quantized fused tensors, experts and their router
for (const [name, opts] of [
  ['qwen2', { bits: 4, groupSize: 16 }],
  ['llama-linear-biases', { bits: 8, groupSize: -1 }],
  ['phi3', { bits: 4, groupSize: -1, symmetric: true }],
  ['mixtral', { bits: 8, groupSize: 16, symmetric: true }],
]) {
  test(`${name}, quantized`, async (t) => {
    const { golden, path, checkpoint, architecture } = await exported(name, rounded(opts));
    const backend = jsBackend();
    const model = await loadModel({ checkpoint, architecture, backend });
    const s = backend.scope();
    const logits = await s.read(await model.forward(s, golden.ids));
    assert.ok(largest(logits.data, golden.logits) > 0.01, 'quantization changes the logits');
    for (const [who, ort, runOpts] of RUNTIMES) {
      const decoder = await openDecoder(ort, path, runOpts);
      const worst = difference(await decoder.start()([golden.ids]), { logits: logits.data });
      await decoder.release();
      t.diagnostic(`${who}: largest difference from our forward pass ${worst.toExponential(1)}`);
      assert.ok(worst < TOLERANCE);
    }
  });
}

function largest(a, b) {
  return a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);
}
