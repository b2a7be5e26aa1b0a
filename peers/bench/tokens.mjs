// Prompt and decode speed of one GGUF file in lmq (kernels-wasm) and in llama.cpp (node-llama-cpp, native), one thread each, in one process,
// in turns. Build lmq first, then: node bench/tokens.mjs file.gguf [prompt tokens] [decoded tokens] [rounds]
// Prints tokens per second of process CPU time (it repeats on a busy machine): median and best.
import { cpus } from 'node:os';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { loadModel } from '../../packages/model/dist/index.js';
import { openModel } from '../../packages/pipeline/dist/node.js';
import { createRng } from '../../packages/tensor/dist/index.js';

const [file, prompt = '128', decoded = '32', rounds = '5'] = process.argv.slice(2);
const opened = await openModel(file);
const backend = await wasmBackend();
const rng = createRng(1);
const ids = Array.from({ length: Number(prompt) + Number(decoded) }, () => rng.below(opened.architecture.vocab));
const start = ids.slice(0, Number(prompt));
const rest = ids.slice(Number(prompt)); // forced, so that all decode the same

const cpu = async (work) => {
  const from = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1e6;
};

async function lmq(activations) {
  const model = await loadModel({ ...opened, backend, activations });
  return {
    name: `lmq ${backend.variant} ${activations}`,
    async round() {
      const cache = model.createCache(ids.length);
      const run = async (tokens) => {
        const s = backend.scope();
        await s.read(await model.forward(s, tokens, { cache, lastOnly: true }));
        s.dispose();
      };
      const first = await cpu(() => run(start));
      const then = await cpu(async () => {
        for (const id of rest) await run([id]);
      });
      cache.dispose();
      return [first, then];
    },
  };
}

async function llamaCpp() {
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, progressLogs: false });
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: ids.length + 16, batchSize: 512, threads: 1 });
  const sequence = context.getSequence();
  const ask = (id) => [id, { generateNext: { token: true, options: { temperature: 0 } } }];
  return {
    name: 'llama.cpp native',
    async round() {
      await sequence.clearHistory();
      const first = await cpu(() => sequence.controlledEvaluate(start.map((id, i) => (i === start.length - 1 ? ask(id) : id))));
      const then = await cpu(async () => {
        for (const id of rest) await sequence.controlledEvaluate([ask(id)]);
      });
      return [first, then];
    },
  };
}

const engines = [await lmq('float32'), await lmq('int16'), await lmq('int8'), await llamaCpp()];
const times = engines.map(() => []);
for (const e of engines) await e.round(); // warm
for (let i = 0; i < Number(rounds); i++) for (const [k, e] of engines.entries()) times[k].push(await e.round());
console.log(
  `${cpus()[0].model}, Node ${process.version}, ${prompt} prompt tokens, ${decoded} decoded, ${rounds} rounds in turns, tokens per CPU second: median (best)`,
);
for (const [k, { name }] of engines.entries()) {
  const rate = (column, tokens) => {
    const t = times[k].map((r) => r[column]).sort((a, b) => a - b);
    return `${(tokens / t[t.length >> 1]).toFixed(1)} (${(tokens / t[0]).toFixed(1)})`;
  };
  console.log(`${name.padEnd(28)} prompt ${rate(0, start.length).padStart(16)}   decode ${rate(1, rest.length).padStart(16)}`);
}
process.exit(0);
