// Encode rates of GGUF block types, one thread, in million weights per second of CPU time (best of several runs): WebAssembly beside
// JavaScript. Build first, then: node bench/encode.bench.mjs [path/to/libggml-base.so] [type …]
// With a path, ggml's own encoders (needs cc) run after ours on the same weights.
import { cpus } from 'node:os';
import { encodeBlocks } from '@lmq/formats/blocks';
import { createBlockEncoder } from '@lmq/kernels-wasm/encode-blocks';
import { matrix } from '@lmq/tensor';
import { cols, parseArguments, rate, rows, weights, withGgml } from '../../formats/bench/_ggml.mjs';

const encoder = await createBlockEncoder();
const { library, types } = parseArguments(encoder.types);
const w = matrix(weights, rows, cols);
const ratio = (a, b) => `ratio ${(a / b).toFixed(2).padStart(5)}`;
const shown = (x) => x.toFixed(1).padStart(6);

function run(ratesOfGgml) {
  for (const type of types) {
    const wasm = rate(() => encoder.encodeBlocks(type, w));
    const js = rate(() => encodeBlocks(type, w));
    let line = `${type.padEnd(5)} WebAssembly ${shown(wasm)}   JavaScript ${shown(js)}   ${ratio(wasm, js)}`;
    const theirs = ratesOfGgml?.(type)[0];
    if (theirs) line += `   ggml ${shown(theirs)}   ${ratio(wasm, theirs)}`;
    console.log(line);
  }
}

console.log(`${cpus()[0].model}, Node ${process.version}; ${rows} x ${cols} normal weights`);
if (library) withGgml(library, run);
else run();
