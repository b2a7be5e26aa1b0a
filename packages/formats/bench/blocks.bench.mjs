// Encode rates of GGUF block types, one thread, in million weights per second of CPU time (best of several runs), without and with
// importances. Build first, then: node bench/blocks.bench.mjs [path/to/libggml-base.so] [type …]
// With a path, ggml's own encoders (bench/ggml.c; needs cc) run after ours on the same weights.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BLOCK_TYPES, encodeBlocks } from '@lmq/formats';
import { createRng, matrix } from '@lmq/tensor';

const [rows, cols] = [256, 2048];
const SECONDS = 1.5;
const args = process.argv.slice(2);
const library = args[0]?.includes('/') ? args.shift() : null;
const types = args.length ? args : Object.keys(BLOCK_TYPES).filter((type) => BLOCK_TYPES[type].encode);

const rng = createRng(1);
const data = Float32Array.from({ length: rows * cols }, () => 0.03 * rng.normal());
const w = matrix(data, rows, cols);
const importance = Float32Array.from({ length: cols }, (_, i) => 1 + (i % 16));

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
const folder = mkdtempSync(join(tmpdir(), 'blocks-'));
try {
  const [driver, weights] = [join(folder, 'ggml'), join(folder, 'weights.bin')];
  if (library) {
    execFileSync('cc', ['-std=gnu11', '-O2', fileURLToPath(new URL('ggml.c', import.meta.url)), '-ldl', '-o', driver]);
    writeFileSync(weights, data);
  }
  for (const type of types) {
    const ours = [rate(() => encodeBlocks(type, w)), rate(() => encodeBlocks(type, w, { importance }))];
    let line = `${type.padEnd(7)} ours ${ours.map((x) => x.toFixed(1).padStart(6)).join(' ')}`;
    if (library) {
      const out = execFileSync(driver, [library, weights, cols, SECONDS, type], { encoding: 'utf8' }).trim().split('\n');
      const theirs = out.map((l) => Number(l.split(' ')[2]));
      line += `   ggml ${theirs.map((x) => x.toFixed(1).padStart(6)).join(' ')}`;
      line += `   ratio ${ours.map((x, i) => (x / theirs[i]).toFixed(2).padStart(5)).join(' ')}`;
    }
    console.log(line);
  }
} finally {
  rmSync(folder, { recursive: true });
}
