// The backward pass of lmq-nano beside its forward pass: processor seconds of both, over windows of 512 tokens, and which part of them matrix
// products take. The limit: the backward pass makes the forward pass of each block again and takes two products for each of a linear's one.
//
//     node packages/model/bench/backward.mjs [windows]        after a build; one thread; about 20 s
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { wasmBackend } from '@lmq/kernels-wasm';
import {
  blockBackward,
  blockForward,
  crossEntropyBackward,
  embedTokens,
  loadBlock,
  loadFinalNorm,
  loadRope,
  parseHfConfig,
  readHead,
} from '@lmq/model';
import { calibration, NANO_MODELS } from '@lmq/nano';

const { folder } = NANO_MODELS['lmq-nano'];
const checkpoint = await openCheckpoint(fileURLToPath(folder));
const a = parseHfConfig(JSON.parse(readFileSync(new URL('config.json', folder), 'utf8')), (name) => checkpoint.tensors.has(name));
const windows = JSON.parse(readFileSync(calibration, 'utf8')).slice(0, Number(process.argv[2] ?? 16));
const backend = await wasmBackend({ threads: 1 });
const table = backend.load({ weight: await checkpoint.read(a.tensors.embedding) });
const head = backend.load(await readHead(checkpoint, a));
const norm = await loadFinalNorm(checkpoint, a, backend);
const rope = loadRope(a, backend, 512);
const blocks = [];
for (let l = 0; l < a.layers; l++) blocks.push(await loadBlock(checkpoint, a, l, backend));

// in every other window the products are timed, which costs time itself
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
let products = 0;
let timing = false;
const makeScope = backend.scope;
backend.scope = (opts) => {
  const s = makeScope(opts);
  if (!timing) return s;
  for (const op of ['gemm', 'linear']) {
    const run = s[op];
    s[op] = (...args) => {
      const from = cpu();
      const out = run(...args);
      products += cpu() - from;
      return out;
    };
  }
  return s;
};

const runs = { forward: [], head: [], backward: [], products: [] };
for (const [i, ids] of windows.entries()) {
  timing = i % 2 === 1;
  const s = backend.scope();
  const times = [cpu()];
  const inputs = [embedTokens(s, a, table, ids)];
  for (const block of blocks) inputs.push(await blockForward(s, block, inputs.at(-1), { architecture: a, rope }));
  times.push(cpu());
  const last = inputs.pop();
  const { dStates } = await crossEntropyBackward(s, head, norm.forward(s, last), ids);
  let d = await norm.backward(s, last, dStates);
  times.push(cpu());
  products = 0;
  for (const block of blocks.toReversed())
    d = await blockBackward(s, block, inputs.pop(), d, { architecture: a, rope, onWeightGradient: (_, g) => void s.read(g) });
  times.push(cpu());
  s.dispose();
  if (timing) runs.products.push(products / (times[3] - times[2]));
  else for (const [k, name] of ['forward', 'head', 'backward'].entries()) runs[name].push(times[k + 1] - times[k]);
}
const median = (xs) => xs.sort((x, y) => x - y)[xs.length >> 1];
const [forward, headTime, backward, inProducts] = Object.values(runs).map(median);
const weights =
  a.sites.length && blocks.reduce((n, b) => n + [...b.linears.values()].reduce((m, l) => m + l.loaded.in * l.loaded.out, 0), 0);
const perWindow = { linears: 2 * 512 * weights, attention: 2 * 512 * 512 * a.heads * a.headDim * a.layers };
console.log(`${backend.variant}, medians over ${windows.length} windows of 512 tokens, processor milliseconds of one thread`);
console.log(
  `blocks forward ${(1e3 * forward).toFixed(1)} (${((perWindow.linears + perWindow.attention) / forward / 1e9).toFixed(1)} GFLOP/s)`,
);
console.log(`head, loss and their gradient ${(1e3 * headTime).toFixed(1)}`);
console.log(
  `blocks backward ${(1e3 * backward).toFixed(1)}: ${(backward / forward).toFixed(2)} times forward, ${Math.round(100 * inProducts)} % in products`,
);
