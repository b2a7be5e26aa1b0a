// Encode rates of GGUF block types in million weights per second of CPU time, best of several runs: of ours and of ggml's own encoders, on the
// same weights.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRng } from '@lmq/tensor';

export const [rows, cols] = [256, 2048];
const SECONDS = 1.5;

const rng = createRng(1);
/** [rows, cols], normal. */
export const weights = Float32Array.from({ length: rows * cols }, () => 0.03 * rng.normal());

/** `[path/to/libggml-base.so] [type …]`. */
export function parseArguments(all) {
  const args = process.argv.slice(2);
  const library = args[0]?.includes('/') ? args.shift() : null;
  return { library, types: args.length ? args : all };
}

/** Of `work`, which encodes the weights once. */
export function rate(work) {
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

/** Compiles ggml.c (needs cc) and hands `use` a function from a type to ggml's rates, without and with importances. */
export function withGgml(library, use) {
  const folder = mkdtempSync(join(tmpdir(), 'ggml-'));
  try {
    const [driver, file] = [join(folder, 'ggml'), join(folder, 'weights.bin')];
    execFileSync('cc', ['-std=gnu11', '-O2', fileURLToPath(new URL('ggml.c', import.meta.url)), '-ldl', '-o', driver]);
    writeFileSync(file, weights);
    use((type) => {
      const out = execFileSync(driver, [library, file, cols, SECONDS, type], { encoding: 'utf8' });
      return out
        .trim()
        .split('\n')
        .map((line) => Number(line.split(' ')[2]));
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
