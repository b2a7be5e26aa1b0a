// The kernels beside onnxruntime-web, tfjs-wasm and jax-js: one process, one thread, in turns. Build lmq first, then, in this folder:
//   npm install --ignore-scripts && node kernels.mjs [pattern] [rounds]
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { runCases } from './_cases.mjs';
import { jaxEngine, lmqEngine, ortEngine, tfEngine } from './_engines.mjs';

const [pattern, rounds = '7'] = process.argv.slice(2);
const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')); // exact versions
const engines = [await lmqEngine(), await ortEngine(), await tfEngine(), await jaxEngine(dependencies['@jax-js/jax'])];
const load = () => `load of the machine ${loadavg()[0].toFixed(1)}`;
console.log(`${cpus().length} x ${cpus()[0].model}, Node ${process.version}, ${new Date().toISOString()}, ${load()}`);
console.log(`${engines.map((e) => e.name).join(', ')}; one thread, ${rounds} rounds in turns; G/s: 10⁹ operations a second of CPU time`);
await runCases(engines, { pattern, rounds: Number(rounds), print: console.log });
console.log(`\n${load()}`);
