// Damaged GPTQ and AWQ checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid tensors that are
// written again as the same bytes. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { validate } from '@lmq/formats';
import { type Affine, createRng, isLmqError } from '@lmq/tensor';
import { expect, it } from 'vitest';
import type { Checkpoint } from '../src/api.js';
import { toAwqTensors } from '../src/awq-write.js';
import { toGptqTensors } from '../src/gptq-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { type Hostile, hostileQuantized } from './_mutate-quantized.js';
import { type Stored, safetensorsOf, storedOf } from './_quantized.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 5000);
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
  let ended = model === physical ? 'not quantized' : 'read';
  for (const [name, info] of model.tensors) {
    try {
      const t = await model.read(name);
      validate(t);
      if (physical.tensors.has(name)) continue;
      expect(t.shape).toEqual(info.shape);
      await same(name, t as Affine, model.format, tensors, seen);
    } catch (e) {
      const codes = physical.tensors.has(name) ? ['model/unsupported', 'argument/value'] : ['file/format', 'model/config'];
      ended = `${promised(e, codes, seen)} in read`;
    }
  }
  return ended;
}

/** What was read must be written as it was, in one of the versions; but for what only a reader takes. */
async function same(name: string, t: Affine, format: string, tensors: Record<string, Stored>, seen: string): Promise<void> {
  if (t.scales.format === 'fp32') return; // not written
  const written: Record<string, Stored>[] = [];
  for (const version of ['v1', 'v2'] as const) {
    try {
      written.push(await storedOf(format === 'awq' ? toAwqTensors(name, t) : toGptqTensors(name, t, { version })));
    } catch (e) {
      if (!isLmqError(e) || e.code !== 'export/unsupported' || version !== 'v1') throw new Error(`${seen}: not written`, { cause: e });
    }
  }
  const equal = (a: Stored, b: Stored | undefined) =>
    b !== undefined && a.dtype === b.dtype && `${a.shape}` === `${b.shape}` && Buffer.compare(a.data, b.data) === 0;
  const differs = (w: Record<string, Stored>, free: string) =>
    Object.entries(w).some(([n, s]) => !equal(s, tensors[n]) && !(n.endsWith('.g_idx') && !tensors[n]) && !n.endsWith(free));
  if (written.some((w) => !differs(w, ' '))) return;
  // zero points of 0 in version 1 can be read and not written: there the rest counts
  if (format === 'gptq' && written.length === 1 && !differs(written[0]!, '.qzeros')) return;
  throw new Error(`${seen}: ${name} is written as other bytes`);
}

it('damaged GPTQ and AWQ checkpoints end in an error that says where, or in the same bytes', async () => {
  const rng = createRng(SEED);
  const ends: Record<string, number> = {};
  const begun = performance.now();
  for (let i = 0; i < CASES; i++) {
    const hostile = hostileQuantized(rng);
    const ended = await judge(hostile, `checkpoint ${i} of seed ${SEED}`);
    if (hostile.whole) expect(ended).toBe('read');
    ends[ended] = (ends[ended] ?? 0) + 1;
  }
  if (process.env.LMQ_FUZZ_CASES) console.log(`${CASES} checkpoints in ${((performance.now() - begun) / 1000).toFixed(1)} s`, ends);
  // the damage reaches all kinds of checks
  for (const end of ['read', 'file/format', 'model/config', 'model/unsupported', 'file/format in read', 'model/config in read'])
    expect(ends[end], end).toBeGreaterThan(CASES / 200);
});
