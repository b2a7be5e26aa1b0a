// Damaged bitsandbytes, HQQ and AutoRound checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid
// tensors, which are read again as the same values when they were written. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { decode, validate } from '@lmq/formats';
import { type CompressedTensor, createRng, isLmqError } from '@lmq/tensor';
import { expect, it } from 'vitest';
import type { Checkpoint, TensorToWrite } from '../src/api.js';
import { bitsandbytesConfig, toBitsandbytesTensors } from '../src/bitsandbytes-write.js';
import { hqqConfig, toHqqTensors } from '../src/hqq-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { type Hostile, hostileLinears } from './_mutate-linears.js';
import { safetensorsOf, storedOf } from './_quantized.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 2000);
const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);

/** Fails the test unless this is an error as the readers promise it; returns its code. */
function promised(e: unknown, codes: readonly string[], seen: string): string {
  if (!isLmqError(e)) throw new Error(`${seen}: not an LmqError`, { cause: e });
  if (!codes.includes(e.code)) throw new Error(`${seen}: code ${e.code}`, { cause: e });
  if (!['model.safetensors', 'config.json'].includes(e.facts.file!)) throw new Error(`${seen}: file ${e.facts.file}`, { cause: e });
  if (e.message.length > 900) throw new Error(`${seen}: ${e.message}`);
  return e.code;
}

/** Reads and writes again what can be opened. Returns how it ended. */
async function judge({ tensors, config }: Hostile, seen: string): Promise<string> {
  const physical = await safetensorsOf(tensors);
  let model: Checkpoint;
  try {
    model = await openQuantized(physical, { quantization_config: config });
  } catch (e) {
    return promised(e, ['file/format', 'file/limit', 'model/config', 'model/unsupported'], seen);
  }
  let ended = 'read';
  for (const [name, info] of model.tensors) {
    const stored = physical.tensors.has(name) && model.tensors.get(name) === physical.tensors.get(name);
    try {
      const t = await model.read(name);
      validate(t);
      if (stored) continue;
      expect(t.shape).toEqual(info.shape);
      await same(name, t, model.format, seen);
    } catch (e) {
      const codes = stored ? ['model/unsupported', 'argument/value'] : ['file/format', 'model/config', 'model/unsupported'];
      ended = `${promised(e, codes, seen)} in read`;
    }
  }
  return ended;
}

/** What was read must be read again with the same values, if the format's writer takes it. */
async function same(name: string, t: CompressedTensor, format: string, seen: string): Promise<void> {
  if (format === 'auto-round' || t.kind === 'dense') return; // written by the writer of GPTQ or AWQ; or decoded
  const bnb = format === 'bitsandbytes';
  const config = bnb ? bitsandbytesConfig({ type: t.kind === 'lut' ? 'nf4' : 'int8' }) : hqqConfig({ bits: 4, groupSize: 64 });
  let written: TensorToWrite[];
  try {
    written = bnb ? toBitsandbytesTensors(name, t, { dtype: 'bf16' }) : toHqqTensors(name, t);
  } catch (e) {
    if (isLmqError(e) && e.code === 'export/unsupported') return;
    throw new Error(`${seen}: not written`, { cause: e });
  }
  const again = await openQuantized(await safetensorsOf(await storedOf(written)), { quantization_config: config });
  const [a, b] = [decode(t).data, decode(await again.read(name)).data];
  if (Buffer.compare(new Uint8Array(a.buffer), new Uint8Array(b.buffer)) !== 0)
    throw new Error(`${seen}: ${name} is written as other values`);
}

it('damaged checkpoints end in an error that says where, or in the same values', async () => {
  const rng = createRng(SEED);
  const ends: Record<string, number> = {};
  const begun = performance.now();
  for (let i = 0; i < CASES; i++) {
    const hostile = hostileLinears(rng);
    const ended = await judge(hostile, `checkpoint ${i} of seed ${SEED}`);
    if (hostile.whole) expect(ended).toBe('read');
    ends[ended] = (ends[ended] ?? 0) + 1;
  }
  if (process.env.LMQ_FUZZ_CASES) console.log(`${CASES} checkpoints in ${((performance.now() - begun) / 1000).toFixed(1)} s`, ends);
  // the damage reaches all kinds of checks
  for (const end of ['read', 'file/format', 'model/config', 'model/unsupported', 'file/format in read', 'model/config in read'])
    expect(ends[end], end).toBeGreaterThan(CASES / 500);
});
