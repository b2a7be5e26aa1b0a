// Prompt and decode speed of GGUF files in lmq and in llama.cpp (node-llama-cpp, native), one thread each, in one process, in turns.
// Build lmq and `npm install --ignore-scripts` in peers/ first, then: node tokens.mjs [file.gguf …]
// Without a file: SmolLM2-135M (Q4_1) and a synthetic llama of 271 M parameters (Q4_0), fetched and made when they are not there.
import { cpus, loadavg } from 'node:os';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { fileSource } from '../../packages/checkpoints/dist/node.js';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { llama271M, smolLM2 } from './_models.mjs';
import { time } from './_time.mjs';
import { lmqModel, measureTokens } from './_tokens.mjs';

async function llamaCpp(llama, file) {
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: 256, batchSize: 256, threads: 1 });
  const sequence = context.getSequence();
  const ask = (id, logits = false) => [id, { generateNext: { token: true, logits, options: { temperature: 0 } } }];
  let last;
  return {
    name: 'llama.cpp native',
    async prompt(ids) {
      await sequence.clearHistory();
      await sequence.controlledEvaluate(ids.map((id, i) => (i === ids.length - 1 ? ask(id) : id)));
    },
    next(id) {
      last = id;
      return sequence.controlledEvaluate([ask(id)]);
    },
    /** Of the last token, evaluated once more with its logits asked for. */
    async likeliest() {
      await sequence.eraseContextTokenRanges([{ start: sequence.nextTokenIndex - 1, end: sequence.nextTokenIndex }]);
      const [{ next }] = await sequence.controlledEvaluate([ask(last, true)]);
      const max = Math.max(...next.logits.values());
      let sum = 0;
      for (const x of next.logits.values()) sum += Math.exp(x - max);
      const [token] = [...next.logits].find(([, x]) => x === max);
      return { token, logProbability: -Math.log(sum) };
    },
  };
}

const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, progressLogs: false });
const files = process.argv.length > 2 ? process.argv.slice(2) : [smolLM2(), await llama271M()];
console.log(`${cpus().length} x ${cpus()[0].model}, Node ${process.version}, ${new Date().toISOString()}, load ${loadavg()[0].toFixed(1)}`);
for (const file of files) {
  console.log(`\n${file}`);
  const backend = await wasmBackend({ threads: 1 });
  const engines = [];
  const load = async (make) => {
    const { wall } = await time(async () => engines.push(await make()));
    console.log(`  ${engines.at(-1).name}: loaded in ${wall.toFixed(2)} s`);
  };
  for (const activations of ['float32', 'int16', 'int8']) await load(async () => lmqModel(await fileSource(file), backend, activations));
  await load(() => llamaCpp(llama, file));
  await measureTokens(engines, { print: console.log });
}
process.exit(0); // node-llama-cpp keeps the process alive
