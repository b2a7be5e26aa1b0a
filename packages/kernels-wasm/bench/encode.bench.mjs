// Encode rates of GGUF block types, one thread, in million weights per second of CPU time (best of several runs): WebAssembly beside
// JavaScript. Build first, then: node bench/encode.bench.mjs [path/to/libggml-base.so] [type …]
// With a path, ggml's own encoders (bench/ggml.c of @lmq/formats; needs cc) run after ours on the same weights.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeBlocks } from '@lmq/formats/blocks';
import { createBlockEncoder } from '@lmq/kernels-wasm/encode-blocks';
import { createRng, matrix } from '@lmq/tensor';

const [rows, cols] = [256, 2048];
const SECONDS = 1.5;
const encoder = await createBlockEncoder();
const args = process.argv.slice(2);
const library = args[0]?.includes('/') ? args.shift() : null;
const types = args.length ? args : encoder.types;

const rng = createRng(1);
const data = Float32Array.from({ length: rows * cols }, () => 0.03 * rng.normal());
const w = matrix(data, rows, cols);

function rate(work) {
  let best = Number.POSITIVE_INFINITY;
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  for (const end = cpu() + SECONDS; cpu() < end; ) {
    const start = cpu();
    work();
    best = Math.min(best, cpu() - start);
  }
  return (rows * cols) / best / 1e6;
}

console.log(`${cpus()[0].model}, Node ${process.version}; ${rows} x ${cols} normal weights`);
const folder = mkdtempSync(join(tmpdir(), 'encode-'));
try {
  const [driver, weights] = [join(folder, 'ggml'), join(folder, 'weights.bin')];
  if (library) {
    const source = fileURLToPath(new URL('../../formats/bench/ggml.c', import.meta.url));
    execFileSync('cc', ['-std=gnu11', '-O2', source, '-ldl', '-o', driver]);
    writeFileSync(weights, data);
  }
  for (const type of types) {
    const wasm = rate(() => encoder.encodeBlocks(type, w));
    const js = rate(() => encodeBlocks(type, w));
    let line = `${type.padEnd(5)} WebAssembly ${wasm.toFixed(1).padStart(6)}   JavaScript ${js.toFixed(1).padStart(6)}   ratio ${(wasm / js).toFixed(2).padStart(5)}`;
    if (library) {
      const out = execFileSync(driver, [library, weights, cols, SECONDS, type], { encoding: 'utf8' }).trim().split('\n');
      const theirs = Number(out[0].split(' ')[2]);
      line += `   ggml ${theirs.toFixed(1).padStart(6)}   ratio ${(wasm / theirs).toFixed(2).padStart(5)}`;
    }
    console.log(line);
  }
} finally {
  rmSync(folder, { recursive: true });
}
