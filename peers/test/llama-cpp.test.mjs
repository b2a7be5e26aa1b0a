// llama.cpp (through node-llama-cpp) reads the GGUF files that `lmq quantize` writes, and says what our own forward pass says.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { loadModel } from '../../packages/model/dist/index.js';
import { openModel } from '../../packages/pipeline/dist/node.js';
import { distance, logProbabilities, ranked, roundingBackend, startLlama, TOP } from '../llama.mjs';

const ROOT = new URL('../../', import.meta.url).pathname;
const lmq = (...args) =>
  execFileSync(process.execPath, [join(ROOT, 'packages/cli/bin/lmq.js'), ...args, '--json', '--quiet'], { encoding: 'utf8' });
const prompt = JSON.parse(readFileSync(join(ROOT, 'packages/nano/models/lmq-nano/golden.json'), 'utf8')).prompt_ids;

const FORCED = 64; // positions compared
const GREEDY = 60; // tokens generated

/**
 * Bounds on |log p(ours) - log p(llama.cpp)| over our ten likeliest tokens. The weights are the same bits; what differs is arithmetic.
 * llama.cpp keeps keys, values and the inputs of F16 weights in half precision, and rounds the inputs of Q8_0 and Q4_0 weights to Q8_0
 * blocks (steps of 1/127 of the largest of 32). We round nothing. So for block types the difference is also held against what that
 * rounding does to our own logits (`rounds`): the looser bound is the price of llama.cpp's arithmetic, not of our file.
 */
const CASES = [
  { model: 'lmq-nano', type: 'f16', recipe: ['--method', 'none'], mean: 0.003, max: 0.03 },
  { model: 'lmq-nano', type: 'q8_0', recipe: ['--method', 'rtn'], mean: 0.08, max: 0.6, rounds: true },
  { model: 'lmq-nano', type: 'q4_0', recipe: ['--method', 'gptq', '--samples', '8'], mean: 0.08, max: 0.6, rounds: true },
  { model: 'lmq-nano-moe', type: 'f16', recipe: ['--method', 'none'], mean: 0.003, max: 0.03 },
];

let dir;
let llama;
let backend;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lmq-peers-'));
  llama = await startLlama();
  backend = await wasmBackend();
});
after(async () => {
  await llama?.dispose();
  rmSync(dir, { recursive: true, force: true });
});

/** Our log probabilities after each position, and our greedy continuation with the lead of each choice over the second. */
async function ours(path, backend, tokens = GREEDY) {
  const opened = await openModel(path);
  const model = await loadModel({ ...opened, backend });
  const after = async (ids) => {
    const s = backend.scope();
    const logits = await s.read(await model.forward(s, ids));
    s.dispose();
    const [rows, cols] = logits.shape;
    return Array.from({ length: rows }, (_, r) => logProbabilities(logits.data.subarray(r * cols, (r + 1) * cols)));
  };
  const forced = await after(prompt.slice(0, FORCED));
  const greedy = [];
  for (let i = 0; i < tokens; i++) {
    const p = (await after([...prompt.slice(0, 16), ...greedy.map((g) => g.id)])).at(-1);
    const [first, second] = ranked(p);
    greedy.push({ id: first, lead: p[first] - p[second] });
  }
  model.dispose();
  await opened.close();
  return { forced, greedy };
}

/** The same from llama.cpp. */
async function theirs(path) {
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({ contextSize: 512, threads: 1 }); // more threads would spin against each other on a busy machine
  const sequence = context.getSequence();
  const ask = (id) => [id, { generateNext: { logits: true, token: true, options: { temperature: 0 } } }];
  const vector = (logits) => {
    const out = new Array(logits.size);
    for (const [id, x] of logits) out[id] = x;
    return logProbabilities(out);
  };
  const forced = (await sequence.controlledEvaluate(prompt.slice(0, FORCED).map(ask))).map((o) => vector(o.next.logits));
  await sequence.clearHistory();
  const greedy = [];
  let input = prompt.slice(0, 16).map((id, i) => (i === 15 ? ask(id) : id));
  for (let i = 0; i < GREEDY; i++) {
    const p = vector((await sequence.controlledEvaluate(input)).at(-1).next.logits);
    greedy.push(ranked(p)[0]);
    input = [ask(greedy.at(-1))];
  }
  const text = 'It was 1984, and the\nsun was a "dream"; wasn\'t it?';
  const tokens = model.tokenize(text);
  await context.dispose();
  await model.dispose();
  return { forced, greedy, text, tokens };
}

for (const { model, type, recipe, mean, max, rounds } of CASES) {
  describe(`${model} as ${type}`, () => {
    test('llama.cpp agrees with our forward pass', async (t) => {
      const gguf = join(dir, `${model}-${type}.gguf`);
      const folder = join(dir, `${model}-${type}-lmq`);
      lmq('quantize', model, '-o', gguf, ...recipe, '--export', `gguf:${type}`);
      // the same weights without GGUF in between, so that a mistake of our writer cannot hide behind the same mistake of our reader
      const blockOptions = { q8_0: ['--bits', '8'], q4_0: ['--bits', '4'] }[type];
      lmq(
        'quantize',
        model,
        '-o',
        folder,
        ...recipe,
        ...(blockOptions ? [...blockOptions, '--group-size', '32', '--symmetric', '--preset', 'gguf'] : []),
      );
      const a = await ours(folder, backend);
      const b = await theirs(gguf);

      const d = distance(a.forced, b.forced);
      t.diagnostic(`|Δ log p| mean ${d.mean.toFixed(5)}, worst ${d.worst.toFixed(5)}`);
      assert.ok(d.mean <= mean && d.worst <= max, `mean ${d.mean} > ${mean} or worst ${d.worst} > ${max}`);
      if (rounds) {
        const r = distance(
          a.forced,
          (
            await ours(
              folder,
              roundingBackend((w) => (w.out === 2048 ? 0 : 32)),
              0,
            )
          ).forced,
        );
        t.diagnostic(`rounding our own inputs to Q8_0: mean ${r.mean.toFixed(5)}, worst ${r.worst.toFixed(5)}`);
        assert.ok(d.mean <= 1.5 * r.mean, `llama.cpp is further away (${d.mean}) than rounding explains (${r.mean})`);
      }

      const parting = a.greedy.findIndex((g, i) => g.id !== b.greedy[i]);
      t.diagnostic(
        parting < 0
          ? `${GREEDY} greedy tokens equal`
          : `greedy text parts at ${parting}, where our lead is ${a.greedy[parting].lead.toFixed(4)}`,
      );
      if (parting >= 0) assert.ok(a.greedy[parting].lead <= 2 * mean, `greedy texts part at ${parting}, which is no near tie`);

      const { tokenizer, close } = await openModel(model);
      assert.deepEqual([...b.tokens], tokenizer.encode(b.text), 'llama.cpp tokenizes as the original does');
      await close();
    });

    test('our own reader of the file gives the same logits', async () => {
      const [a, b] = [
        await ours(join(dir, `${model}-${type}-lmq`), backend, 0),
        await ours(join(dir, `${model}-${type}.gguf`), backend, 0),
      ];
      // f16 rounds bf16 weights below 2^-14; the other differences are float order
      for (let i = 0; i < FORCED; i++)
        for (const id of ranked(a.forced[i]).slice(0, TOP)) assert.ok(Math.abs(a.forced[i][id] - b.forced[i][id]) < 1e-3);
    });
  });
}
