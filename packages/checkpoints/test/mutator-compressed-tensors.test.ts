// Damaged compressed-tensors checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid tensors, which
// are read again as they were when they are written. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { isDeepStrictEqual } from 'node:util';
import { validate } from '@lmq/formats';
import { type CompressedTensor, createRng, isLmqError } from '@lmq/tensor';
import { expect, it } from 'vitest';
import type { Checkpoint } from '../src/api.js';
import { openCompressedTensors } from '../src/compressed-tensors.js';
import { compressedTensorsConfig, compressedTensorsScheme, toCompressedTensors } from '../src/compressed-tensors-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { type Hostile, hostileCompressedTensors } from './_mutate-compressed-tensors.js';
import { safetensorsOf, storedOf } from './_quantized.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 2000);
const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);

/** Fails the test unless this is an error as the readers promise it; returns its code. */
function promised(e: unknown, codes: readonly string[], seen: string): string {
  if (!isLmqError(e)) throw new Error(`${seen}: not an LmqError`, { cause: e });
  if (!codes.includes(e.code)) throw new Error(`${seen}: code ${e.code}`, { cause: e });
  if (!['model.safetensors', 'config.json'].includes(e.facts.file!)) throw new Error(`${seen}: file ${e.facts.file}`, { cause: e });
  if (e.message.length > 800) throw new Error(`${seen}: ${e.message}`);
  return e.code;
}

/** Reads and writes again what can be opened. Returns how it ended. */
async function judge({ tensors, config }: Hostile, seen: string): Promise<string> {
  const physical = await safetensorsOf(tensors);
  let model: Checkpoint;
  try {
    model = await openQuantized(physical, { quantization_config: config });
  } catch (e) {
    return promised(e, ['file/format', 'model/config', 'model/unsupported'], seen);
  }
  let ended = 'read';
  for (const [name, info] of model.tensors) {
    const plain = physical.tensors.get(name) === info;
    try {
      const t = await model.read(name);
      if (plain) continue; // as any file holds it, empty ones too
      validate(t);
      expect(t.shape).toEqual(info.shape);
      await same(name, t, seen);
    } catch (e) {
      ended = `${promised(e, plain ? ['model/unsupported', 'argument/value'] : ['file/format', 'model/config'], seen)} in read`;
    }
  }
  return ended;
}

/** What was read must be written so that it is read again, but for scales that only a reader takes. */
async function same(name: string, t: CompressedTensor, seen: string): Promise<void> {
  if (t.kind !== 'affine' && t.kind !== 'minifloat') return;
  for (const format of t.kind === 'affine' ? (['pack-quantized', 'int-quantized'] as const) : [undefined]) {
    const opts = { packing: 'stream' as const, ...(format && { format }) };
    try {
      const config = compressedTensorsConfig({ linears: [[name, compressedTensorsScheme(name, t, opts)]] });
      const written = await safetensorsOf(await storedOf(toCompressedTensors(name, t, opts)));
      const again = await (await openCompressedTensors(written, config, opts)).read(name);
      if (!isDeepStrictEqual(again, t)) throw new Error('read as another tensor');
    } catch (e) {
      const free = t.kind === 'affine' ? format === 'pack-quantized' && t.scales.format === 'fp32' : t.scales!.block.toString() !== '1,32';
      if (!isLmqError(e) || e.code !== 'export/unsupported' || !free) throw new Error(`${seen}: not written`, { cause: e });
    }
  }
}

it('damaged compressed-tensors checkpoints end in an error that says where, or in the same tensors', async () => {
  const rng = createRng(SEED);
  const ends: Record<string, number> = {};
  const begun = performance.now();
  for (let i = 0; i < CASES; i++) {
    const hostile = hostileCompressedTensors(rng);
    const ended = await judge(hostile, `checkpoint ${i} of seed ${SEED}`);
    if (hostile.whole) expect(ended).toBe('read');
    ends[ended] = (ends[ended] ?? 0) + 1;
  }
  if (process.env.LMQ_FUZZ_CASES) console.log(`${CASES} checkpoints in ${((performance.now() - begun) / 1000).toFixed(1)} s`, ends);
  // the damage reaches all kinds of checks
  for (const end of ['read', 'file/format', 'model/config', 'model/unsupported', 'file/format in read', 'model/config in read'])
    expect(ends[end], end).toBeGreaterThan(CASES / 500);
});
