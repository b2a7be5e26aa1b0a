// Encode rates of GGUF block types, one thread, in million weights per second of CPU time (best of several runs), without and with
// importances. Build first, then: node bench/blocks.bench.mjs [path/to/libggml-base.so] [type …]
// With a path, ggml's own encoders (ggml.c; needs cc) run after ours on the same weights.
import { cpus } from 'node:os';
import { ENCODABLE_BLOCK_TYPES, encodeBlocks } from '@lmq/formats';
import { matrix } from '@lmq/tensor';
import { cols, parseArguments, rate, rows, weights, withGgml } from './_ggml.mjs';

const { library, types } = parseArguments(ENCODABLE_BLOCK_TYPES);
const w = matrix(weights, rows, cols);
const importance = Float32Array.from({ length: cols }, (_, i) => 1 + (i % 16));
const list = (rates, digits, width) => rates.map((x) => x.toFixed(digits).padStart(width)).join(' ');

function run(ratesOfGgml) {
  for (const type of types) {
    const ours = [rate(() => encodeBlocks(type, w)), rate(() => encodeBlocks(type, w, { importance }))];
    let line = `${type.padEnd(7)} ours ${list(ours, 1, 6)}`;
    const theirs = ratesOfGgml?.(type);
    if (theirs)
      line += `   ggml ${list(theirs, 1, 6)}   ratio ${list(
        ours.map((x, i) => x / theirs[i]),
        2,
        5,
      )}`;
    console.log(line);
  }
}

console.log(`${cpus()[0].model}, Node ${process.version}; ${rows} x ${cols} normal weights`);
if (library) withGgml(library, run);
else run();
