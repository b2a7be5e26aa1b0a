// What runs in the page's worker. Its name is the job, as JSON. Messages out: { line } to print, { error }, or {} at the end.
import { Wllama } from '@wllama/wllama';
import { urlSource } from '../../../packages/checkpoints/dist/index.js';
import { wasmBackend } from '../../../packages/kernels-wasm/dist/index.js';
import { runCases } from '../_cases.mjs';
import { jaxEngine, lmqEngine, ortEngine, tfEngine } from '../_engines.mjs';
import { setCpuClock, time } from '../_time.mjs';
import { lmqModel, measureTokens } from '../_tokens.mjs';

const print = (line) => self.postMessage({ line });
const at = (path) => new URL(path, self.location.origin).href;

async function wllama(version, url) {
  self.document ??= { baseURI: self.location.origin }; // it is written for pages, and makes a worker of its own
  const paths = { 'single-thread/wllama.wasm': at('/wllama/single-thread/wllama.wasm') };
  const engine = new Wllama(paths, { suppressNativeLog: true });
  await engine.loadModel([await (await fetch(url)).blob()], { n_ctx: 256, n_batch: 256, n_threads: 1 });
  return {
    name: `wllama ${version}`,
    async prompt(ids) {
      await engine.kvClear();
      await engine.decode(ids, {});
    },
    next: (id) => engine.decode([id], {}),
    async likeliest() {
      const [{ token, p }] = await engine.getLogits(1);
      return { token, logProbability: Math.log(p) };
    },
    dispose: () => engine.exit(),
  };
}

async function tokens(model, version) {
  print(`\n${model.slice(1)}`);
  const backend = await wasmBackend({ threads: 1 });
  const engines = [];
  const load = async (make) => {
    const { wall } = await time(async () => engines.push(await make()));
    print(`  ${engines.at(-1).name}: loaded in ${wall.toFixed(2)} s`);
  };
  for (const activations of ['float32', 'int16', 'int8'])
    await load(async () => lmqModel(await urlSource(at(model)), backend, activations));
  await load(() => wllama(version, at(model)));
  await measureTokens(engines, { print });
  await engines.at(-1).dispose();
}

const { pattern, rounds, models, versions } = JSON.parse(self.name); // a message could come before this module has run, and be lost
try {
  const cpu = async () => Number(await (await fetch('/cpu')).text());
  if (await cpu()) setCpuClock(cpu);
  const engines = [await lmqEngine(), await ortEngine(at('/ort/')), await tfEngine(at('/tfjs/')), await jaxEngine(versions['@jax-js/jax'])];
  print(`${engines.map((e) => e.name).join(', ')}; one thread, ${rounds} rounds in turns`);
  await runCases(engines, { pattern, rounds, print });
  for (const model of models) await tokens(model, versions['@wllama/wllama']);
  self.postMessage({});
} catch (e) {
  self.postMessage({ error: e.stack });
}
