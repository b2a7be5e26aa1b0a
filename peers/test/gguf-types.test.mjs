// llama.cpp loads every GGUF type and mixture that lmq writes: on a generated llama whose widths are whole blocks of 256, and on lmq-nano, where
// llama.cpp's own fallback types stand in for them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { GGUF_FILE_TYPES, GGUF_TYPES } from '../../packages/checkpoints/dist/index.js';
import { openCheckpoint } from '../../packages/checkpoints/dist/node.js';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { parseRecipe } from '../../packages/pipeline/dist/index.js';
import { calibrateModel, openImportanceFile, openModel, quantizeModel } from '../../packages/pipeline/dist/node.js';
import { distance, ours, roundingBackend, startLlama, theirs } from '../llama.mjs';
import { LLAMA, writeSynthetic } from '../synthetic.mjs';

const IDS = JSON.parse(readFileSync(new URL('../../packages/nano/models/lmq-nano/golden.json', import.meta.url))).prompt_ids.slice(0, 48);

/**
 * Bounds on |Δ log p| over our ten likeliest tokens. The weights are the same bits (gguf-py and ggml's own hashes say so); what differs is
 * arithmetic: llama.cpp keeps keys and values in half precision, and rounds what it multiplies the weights with. We round nothing.
 *
 * - floats: inputs of F16 and BF16 weights are rounded to that format.
 * - blocks: inputs are rounded to 8 bits, 32 columns to a scale (types of 32) or 256 (k-quants, IQ4_XS, ternary). How much that is depends on
 *   the model: the mean is held against what the same rounding does to our own logits.
 */
const FLOATS = { mean: 0.006, max: 0.06 };
const EXPLAINED = 1.3; // times the mean that rounding explains
const isFloat = (name) => ['f32', 'f16', 'bf16'].includes(name);
/** Columns to a scale in the inputs of a linear, by its width and the file's main type. */
const blockOf = (name) => (w) => (w.in % 256 === 0 && GGUF_TYPES.get(GGUF_FILE_TYPES.get(name).type).blockSize === 256 ? 256 : 32);

let dir;
let llama;
let backend;
let importance;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lmq-types-'));
  llama = await startLlama();
  backend = await wasmBackend();
  await writeSynthetic(join(dir, 'llama-256'), LLAMA);
  importance = await importanceOf(join(dir, 'llama-256'), 'imatrix-dat');
});
after(async () => {
  await llama?.dispose();
  rmSync(dir, { recursive: true, force: true });
});

async function check(t, name, path) {
  const [a, b] = [await ours(path, backend, IDS), await theirs(llama, path, IDS)];
  const d = distance(a, b);
  const seen = `${name}: |Δ log p| mean ${d.mean.toFixed(5)}, worst ${d.worst.toFixed(5)}`;
  t.diagnostic(seen);
  if (isFloat(name)) return assert.ok(d.mean <= FLOATS.mean && d.worst <= FLOATS.max, seen);
  const r = distance(a, await ours(path, roundingBackend(blockOf(name)), IDS));
  t.diagnostic(`rounding our own inputs: mean ${r.mean.toFixed(5)}, worst ${r.worst.toFixed(5)}`);
  assert.ok(d.mean <= EXPLAINED * r.mean + 0.001, `${seen}, and rounding explains ${r.mean}`);
}

async function write(source, name, output, opts = {}) {
  const model = await openModel(source);
  const report = await quantizeModel(model, { backend, recipe: parseRecipe({ export: `gguf:${name}`, ...opts.recipe }), output, ...opts });
  await model.close();
  return report;
}

/** Importances of our own calibration, through a file. */
async function importanceOf(source, format) {
  const model = await openModel(source);
  const output = join(dir, format);
  await calibrateModel(model, { backend, output, format, calibration: [IDS, [...IDS].reverse()], minTokens: 0, force: true });
  const opened = await openImportanceFile(output, model);
  await model.close();
  return opened;
}

async function typesOf(path) {
  const file = await openCheckpoint(path);
  const types = new Set([...file.tensors.values()].map((t) => t.format));
  await file.close();
  return types;
}

describe('widths of whole blocks', () => {
  for (const [name, { type }] of GGUF_FILE_TYPES) {
    if (name === 'mxfp4_moe') continue; // there are no experts: Q8_0 throughout
    test(name, async (t) => {
      const path = join(dir, `${name}.gguf`);
      await write(join(dir, 'llama-256'), name, path, name === 'q2_k_s' ? { importance } : {}); // refused without
      const types = await typesOf(path);
      const stored = { F32: 'fp32', F16: 'fp16', BF16: 'bf16' }[type] ?? type;
      assert.ok(types.has(stored), `${[...types]} without ${stored}`);
      await check(t, name, path);
    });
  }
});

describe('lmq-nano, with fallback types where 640 columns are not whole blocks', () => {
  const FALLBACKS = { q2_k: 'Q4_0', q3_k_m: 'Q5_0', q4_k_m: 'Q5_0', q5_k_m: 'Q5_1', q6_k: 'Q8_0', iq4_xs: 'IQ4_NL', tq2_0: 'Q4_0' };
  for (const [name, fallback] of Object.entries(FALLBACKS)) {
    test(name, async (t) => {
      const path = join(dir, `nano-${name}.gguf`);
      const { notes } = await write('lmq-nano', name, path);
      assert.ok(
        notes.some((n) => n.includes(` as ${fallback}: `)),
        `no note of ${fallback}: ${notes}`,
      );
      assert.ok((await typesOf(path)).has(fallback));
      await check(t, name, path);
    });
  }

  test('experts in MXFP4, and importances of our own calibration, in parts', async (t) => {
    const importance = await importanceOf('lmq-nano-moe', 'imatrix');
    await write('lmq-nano-moe', 'mxfp4_moe', join(dir, 'moe.gguf'));
    assert.ok((await typesOf(join(dir, 'moe.gguf'))).has('MXFP4'));
    await check(t, 'mxfp4_moe', join(dir, 'moe.gguf'));
    const { output } = await write('lmq-nano-moe', 'q4_k_m', join(dir, 'weighed.gguf'), { importance, maxShardBytes: 1e6 });
    assert.match(output, /weighed-00001-of-0000[2-9]\.gguf$/);
    await check(t, 'q4_k_m', output);
  });
});
