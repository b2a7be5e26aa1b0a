// Damaged compressed-tensors checkpoints by the thousand. Each must end in an LmqError that names its file, or be read as valid tensors, which
// are read again as they were when they are written. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { isDeepStrictEqual } from 'node:util';
import { type CompressedTensor, isLmqError } from '@lmq/tensor';
import { it } from 'vitest';
import { openCompressedTensors } from '../src/compressed-tensors.js';
import { compressedTensorsConfig, compressedTensorsScheme, toCompressedTensors } from '../src/compressed-tensors-write.js';
import { surviveDamage } from './_damage.js';
import { hostileCompressedTensors } from './_mutate-compressed-tensors.js';
import { safetensorsOf, storedOf } from './_quantized.js';

/** What was read must be written so that it is read again, but for scales that only a reader takes. */
async function same(name: string, t: CompressedTensor, _: string, __: object, seen: string): Promise<void> {
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

it('damaged compressed-tensors checkpoints end in an error that says where, or in the same tensors', () =>
  surviveDamage({ cases: 2000, oneOf: 500, make: hostileCompressedTensors, same }));
