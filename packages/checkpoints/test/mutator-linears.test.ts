// Damaged bitsandbytes, HQQ and AutoRound checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid
// tensors, which are read again as the same values when they were written. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { decode } from '@lmq/formats';
import { type CompressedTensor, isLmqError } from '@lmq/tensor';
import { it } from 'vitest';
import type { TensorToWrite } from '../src/api.js';
import { bitsandbytesConfig, toBitsandbytesTensors } from '../src/bitsandbytes-write.js';
import { hqqConfig, toHqqTensors } from '../src/hqq-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { surviveDamage } from './_damage.js';
import { hostileLinears } from './_mutate-linears.js';
import { safetensorsOf, storedOf } from './_quantized.js';

/** What was read must be read again with the same values, if the format's writer takes it. */
async function same(name: string, t: CompressedTensor, format: string, _: object, seen: string): Promise<void> {
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

it('damaged checkpoints end in an error that says where, or in the same values', () =>
  surviveDamage({
    cases: 2000,
    oneOf: 500,
    make: hostileLinears,
    same,
    opening: ['file/limit'],
    reading: ['model/unsupported'],
  }));
