// onnxruntime-node, onnxruntime-web (WebAssembly) and transformers.js run the folders that `lmq quantize --export onnx` writes, and say what
// our own forward pass says.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AutoModelForCausalLM, AutoTokenizer, env, Tensor } from '@huggingface/transformers';
import * as node from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { loadModel } from '../../packages/model/dist/index.js';
import { calibration } from '../../packages/nano/dist/index.js';
import { openModel } from '../../packages/pipeline/dist/node.js';
import { openDecoder } from '../_onnx.mjs';

const ROOT = new URL('../../', import.meta.url).pathname;
const lmq = (...args) =>
  execFileSync(process.execPath, [join(ROOT, 'packages/cli/bin/lmq.js'), ...args, '--json', '--quiet'], { encoding: 'utf8' });
const [prompt] = JSON.parse(readFileSync(calibration, 'utf8'));

const FORCED = 320; // positions compared: beyond the 256 that RoPE's tables repeat after
const SINGLE = 32; // of them one by one
const GREEDY = 60; // tokens generated
const START = 16; // after so many of the prompt

/**
 * Largest |Δ log p| over all tokens at all positions. The weights are the same numbers and both compute in float32: only the order of sums
 * differs, and the exponentials of softmax and SiLU, which ONNX Runtime approximates. Seen: 7e-5.
 */
const BOUND = 3e-4;
/** A lead of our first choice over the second below which another order of sums may choose otherwise. */
const NEAR_TIE = 2 * BOUND;

const CASES = [
  { name: 'float', model: 'lmq-nano', recipe: ['--method', 'none'], file: 'model.onnx' },
  { name: '4 bits, GPTQ, groups of 32', model: 'lmq-nano', recipe: ['--samples', '8', '--group-size', '32'], file: 'model_q4.onnx' },
  { name: '4 bits, symmetric rows', model: 'lmq-nano', recipe: ['--method', 'rtn', '--symmetric'], file: 'model_q4.onnx' },
  { name: '8 bits, rows', model: 'lmq-nano', recipe: ['--method', 'rtn', '--bits', '8'], file: 'model_quantized.onnx' },
  { name: 'experts', model: 'lmq-nano-moe', recipe: ['--method', 'rtn', '--group-size', '16'], file: 'model_q4.onnx' },
];

let dir;
let backend;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lmq-onnx-'));
  backend = await wasmBackend();
  web.env.wasm.numThreads = 1;
  env.allowRemoteModels = false;
  env.localModelPath = dir;
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** Natural logarithms of the probabilities. */
function logProbabilities(logits) {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = max + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return Array.from(logits, (x) => x - lse);
}
const ranked = (p) => p.map((_, i) => i).sort((a, b) => p[b] - p[a]);

/** Our log probabilities after each position, and our greedy continuation with the lead of each choice over the second. */
async function ours(path) {
  const opened = await openModel(path);
  const model = await loadModel({ ...opened, backend });
  const after = async (ids, opts) => {
    const s = backend.scope();
    const { data, shape } = await s.read(await model.forward(s, ids, opts));
    s.dispose();
    return Array.from({ length: shape[0] }, (_, r) => logProbabilities(data.slice(r * shape[1], (r + 1) * shape[1])));
  };
  const forced = await after(prompt.slice(0, FORCED));
  const cache = model.createCache(START + GREEDY);
  const greedy = [];
  for (let ids = prompt.slice(0, START); greedy.length < GREEDY; ids = [greedy.at(-1).id]) {
    const p = (await after(ids, { cache })).at(-1);
    const [first, second] = ranked(p);
    greedy.push({ id: first, lead: p[first] - p[second] });
  }
  cache.dispose();
  model.dispose();
  await opened.close();
  return { forced, greedy };
}

/** The same from a runtime: most of the forced positions at once, the last one by one over the cache. */
async function theirs(ort, path, opts) {
  const decoder = await openDecoder(ort, join(path, 'onnx'), opts);
  const step = decoder.start();
  const rows = await step([prompt.slice(0, FORCED - SINGLE)]);
  for (const id of prompt.slice(FORCED - SINGLE, FORCED)) rows.push(...(await step([[id]])));
  const next = decoder.start();
  const greedy = [];
  for (let ids = prompt.slice(0, START); greedy.length < GREEDY; ids = [greedy.at(-1)])
    greedy.push(ranked(Array.from((await next([ids])).at(-1)))[0]);
  await decoder.release();
  return { forced: rows.map(logProbabilities), greedy };
}

function largestDifference(a, b) {
  let worst = 0;
  a.forEach((row, r) => {
    row.forEach((x, i) => {
      worst = Math.max(worst, Math.abs(x - b[r][i]));
    });
  });
  return worst;
}

/** Equal tokens up to the first near tie. */
function sameGreedy(t, who, a, tokens) {
  const parting = a.findIndex((g, i) => i < tokens.length && g.id !== tokens[i]);
  t.diagnostic(
    parting < 0
      ? `${who}: ${tokens.length} greedy tokens equal`
      : `${who}: greedy text parts at ${parting}, where our lead is ${a[parting].lead}`,
  );
  if (parting >= 0) assert.ok(a[parting].lead <= NEAR_TIE, `${who}: greedy texts part at ${parting}, which is no near tie`);
}

for (const { name, model, recipe, file } of CASES) {
  describe(name, () => {
    const id = file + name.replace(/\W/g, '');
    let own;
    before(async () => {
      lmq('quantize', model, '-o', join(dir, id), ...recipe, '--export', 'onnx');
      lmq('quantize', model, '-o', join(dir, `${id}-lmq`), ...recipe);
      assert.deepEqual(readdirSync(join(dir, id, 'onnx')).sort(), [file, `${file}_data`]);
      own = await ours(join(dir, `${id}-lmq`));
    });

    for (const [who, ort, opts] of [
      ['onnxruntime-node', node, {}],
      ['onnxruntime-web', web, { fromBytes: true }],
    ]) {
      test(`${who} agrees with our forward pass`, async (t) => {
        const other = await theirs(ort, join(dir, id), opts);
        const worst = largestDifference(own.forced, other.forced);
        t.diagnostic(`largest |Δ log p| ${worst.toExponential(2)}`);
        assert.ok(worst <= BOUND, `${worst} > ${BOUND}`);
        sameGreedy(t, who, own.greedy, other.greedy);
      });
    }

    const unknown = model === 'lmq-nano-moe' && 'transformers.js 4.3 does not know mixtral';
    test('transformers.js loads the folder by its name and generates the same text', { skip: unknown }, async (t) => {
      const generator = await AutoModelForCausalLM.from_pretrained(id);
      const ids = prompt.slice(0, START);
      const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, START]);
      const out = await generator.generate({ input_ids, max_new_tokens: GREEDY, do_sample: false });
      const tokens = out.tolist()[0].slice(START).map(Number);
      assert.ok(tokens.length === GREEDY || tokens.length > 5); // an end token may stop it
      sameGreedy(t, 'transformers.js', own.greedy, tokens);
      await generator.dispose();

      const tokenizer = await AutoTokenizer.from_pretrained(id);
      const text = 'It was 1984, and the\nsun was a "dream"; wasn\'t it?';
      const { tokenizer: original, close } = await openModel(model);
      assert.deepEqual(tokenizer.encode(text, { add_special_tokens: false }), original.encode(text));
      await close();
    });
  });
}
