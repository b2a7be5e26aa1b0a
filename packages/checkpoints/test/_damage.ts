// What the tests of damaged quantized checkpoints share: each checkpoint must end in an LmqError that names its file, or be read as valid
// tensors, which are the same when they are written and read again.
import { validate } from '@lmq/formats';
import { type CompressedTensor, createRng, isLmqError, type Rng } from '@lmq/tensor';
import { expect } from 'vitest';
import type { Checkpoint } from '../src/api.js';
import { openQuantized } from '../src/open-quantized.js';
import { type Stored, safetensorsOf } from './_quantized.js';

const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);

/** A checkpoint, damaged or not. */
export interface Hostile {
  tensors: Record<string, Stored>;
  config: unknown;
  /** Undamaged. */
  whole: boolean;
}

export interface Damage {
  /** How many checkpoints, unless LMQ_FUZZ_CASES says. */
  cases: number;
  make(rng: Rng): Hostile;
  /** Throws unless a quantized weight that was read can be written again. */
  same(name: string, t: CompressedTensor, format: Checkpoint['format'], tensors: Hostile['tensors'], seen: string): Promise<void>;
  /** Codes of errors besides those of any format: of opening, and of reading a quantized weight. */
  opening?: readonly string[];
  reading?: readonly string[];
  /** Of so many checkpoints, one at the least comes to each kind of end. */
  oneOf: number;
}

/** Fails the test unless this is an error as the readers promise it; returns its code. */
function promised(e: unknown, codes: readonly string[], seen: string): string {
  if (!isLmqError(e)) throw new Error(`${seen}: not an LmqError`, { cause: e });
  if (!codes.includes(e.code)) throw new Error(`${seen}: code ${e.code}`, { cause: e });
  if (!['model.safetensors', 'config.json'].includes(e.facts.file!)) throw new Error(`${seen}: file ${e.facts.file}`, { cause: e });
  if (e.message.length > 900) throw new Error(`${seen}: ${e.message}`);
  return e.code;
}

/** Reads and writes again what can be opened. Returns how it ended. */
async function judge({ tensors, config }: Hostile, { same, opening = [], reading = [] }: Damage, seen: string): Promise<string> {
  const physical = await safetensorsOf(tensors);
  let model: Checkpoint;
  try {
    model = await openQuantized(physical, { quantization_config: config });
  } catch (e) {
    return promised(e, ['file/format', 'model/config', 'model/unsupported', ...opening], seen);
  }
  let ended = model === physical ? 'not quantized' : 'read';
  for (const [name, info] of model.tensors) {
    const plain = physical.tensors.get(name) === info;
    try {
      const t = await model.read(name);
      if (plain) continue; // as any file holds it, empty ones too
      validate(t);
      expect(t.shape).toEqual(info.shape);
      await same(name, t, model.format, tensors, seen);
    } catch (e) {
      const codes = plain ? ['model/unsupported', 'argument/value'] : ['file/format', 'model/config', ...reading];
      ended = `${promised(e, codes, seen)} in read`;
    }
  }
  return ended;
}

/** Judges all checkpoints, and whether the damage reached all kinds of checks. */
export async function surviveDamage(damage: Damage): Promise<void> {
  const cases = Number(process.env.LMQ_FUZZ_CASES ?? damage.cases);
  const rng = createRng(SEED);
  const ends: Record<string, number> = {};
  const begun = performance.now();
  for (let i = 0; i < cases; i++) {
    const hostile = damage.make(rng);
    const ended = await judge(hostile, damage, `checkpoint ${i} of seed ${SEED}`);
    if (hostile.whole) expect(ended).toBe('read');
    ends[ended] = (ends[ended] ?? 0) + 1;
  }
  if (process.env.LMQ_FUZZ_CASES) console.log(`${cases} checkpoints in ${((performance.now() - begun) / 1000).toFixed(1)} s`, ends);
  for (const end of ['read', 'file/format', 'model/config', 'model/unsupported', 'file/format in read', 'model/config in read'])
    expect(ends[end], end).toBeGreaterThan(cases / damage.oneOf);
}
