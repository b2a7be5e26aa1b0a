// Damaged GPTQ and AWQ checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid tensors that are
// written again as the same bytes. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { type Affine, type CompressedTensor, isLmqError } from '@lmq/tensor';
import { it } from 'vitest';
import { toAwqTensors } from '../src/awq-write.js';
import { toGptqTensors } from '../src/gptq-write.js';
import { surviveDamage } from './_damage.js';
import { hostileQuantized } from './_mutate-quantized.js';
import { type Stored, storedOf } from './_quantized.js';

/** What was read must be written as it was, in one of the versions; but for what only a reader takes. */
async function same(name: string, read: CompressedTensor, format: string, tensors: Record<string, Stored>, seen: string): Promise<void> {
  const t = read as Affine;
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

it('damaged GPTQ and AWQ checkpoints end in an error that says where, or in the same bytes', () =>
  surviveDamage({ cases: 5000, oneOf: 200, make: hostileQuantized, same }));
