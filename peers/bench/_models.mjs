// The two models that tokens per second are measured on; made or fetched into models/ when they are not there.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeGguf } from '../../packages/checkpoints/dist/index.js';
import { openCheckpoint, writeFileAtomic } from '../../packages/checkpoints/dist/node.js';
import { decode, encodeBlocks } from '../../packages/formats/dist/index.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const run = (command, ...args) => execFileSync(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });

/** SmolLM2-135M-Instruct, Q4_1, 98 MB. */
export function smolLM2() {
  const path = join(root, 'models/smollm2-135m.gguf');
  run('sh', 'tools/fetch-smollm2.sh', path); // leaves alone a file that is whole
  return path;
}

/** llama.cpp's "Q4_0" has its embedding in Q4_0 and its head in Q6_K; lmq exports both as F16. */
const OTHER_TYPES = { 'token_embd.weight': 'Q4_0', 'output.weight': 'Q6_K' };

/** A llama of 271 M random parameters (16 layers, width 1024, feed-forward 2816, 16 heads, vocabulary 32 000), Q4_0, 162 MB. */
export async function llama271M() {
  const path = join(root, 'models/llama-271m-q4_0.gguf');
  if (existsSync(path)) return path;
  const work = mkdtempSync(join(tmpdir(), 'lmq-llama-'));
  try {
    run(process.execPath, 'tools/make-synthetic.mjs', join(work, 'hf'));
    const exported = join(work, 'q4_0.gguf');
    const how = ['--method', 'rtn', '--export', 'gguf:q4_0', '--quiet'];
    run(process.execPath, 'packages/cli/bin/lmq.js', 'quantize', join(work, 'hf'), '-o', exported, ...how);
    const from = await openCheckpoint(exported);
    const tensors = [...from.tensors.values()].map(({ name, shape, format }) => {
      const type = OTHER_TYPES[name];
      if (!type) return { name, shape, dtype: format === 'fp32' ? 'F32' : format, bytes: () => from.readBytes(name) };
      return { name, shape, dtype: type, bytes: async () => encodeBlocks(type, decode(await from.read(name))).data };
    });
    mkdirSync(join(root, 'models'), { recursive: true });
    await writeFileAtomic(path, (sink) => writeGguf(sink, { metadata: from.entries, tensors }));
    await from.close();
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return path;
}
