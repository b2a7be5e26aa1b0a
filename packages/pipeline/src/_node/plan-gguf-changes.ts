/**
 * What an export to GGUF makes of tensors that are stored in another way already.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { affineToBlocks, BLOCK_TYPES, layoutName } from '@lmq/formats';
import { type BlockType, type CompressedTensor, createPhase, LmqError, type LongCallOpts } from '@lmq/tensor';
import { toDense } from '../_folders/safetensors.js';
import { type Change, changeOf } from './changes.js';
import { type PlanGgufOpts, planGguf } from './plan-gguf.js';

const FLOATS = { F32: 'fp32', F16: 'fp16', BF16: 'bf16' } as const;

/** Reads every tensor once. @returns what becomes of each, and why some cannot be stored */
export async function planGgufChanges(
  checkpoint: Checkpoint,
  opts: PlanGgufOpts & LongCallOpts,
): Promise<{ changes: Change[]; refused: LmqError[] }> {
  const { tensors } = await planGguf(checkpoint, opts);
  const done = createPhase('look at the weights', checkpoint.tensors.size, 'tensors', opts);
  const changes: Change[] = [];
  const refused: LmqError[] = [];
  for (const { type, sources, add = 0, scale = 1 } of tensors) {
    for (const name of sources) {
      opts.signal?.throwIfAborted();
      const t = await checkpoint.read(name);
      const info = checkpoint.tensors.get(name)!;
      done(changes.length + 1, name);
      const float = FLOATS[type as keyof typeof FLOATS];
      if (add !== 0 || scale !== 1) {
        changes.push({ tensor: name, from: info.format, to: type, effect: 'exact', detail: 'as GGUF wants it: shifted or scaled' });
        continue;
      }
      if (float) {
        changes.push({ ...changeOf(name, info, t, toDense(name, t, float)), to: type });
        continue;
      }
      const same = t.kind === 'blocks' && t.type === type;
      if (same || (t.kind === 'affine' && affineToBlocks(t, type as BlockType))) {
        changes.push({ tensor: name, from: info.format, to: type, effect: same ? 'same' : 'exact' });
        continue;
      }
      const error = refusal(name, t, type as BlockType);
      refused.push(error);
      changes.push({ tensor: name, from: info.format, to: type, effect: 'refused', detail: error.message });
    }
  }
  return { changes, refused };
}

function refusal(name: string, t: CompressedTensor, type: BlockType): LmqError {
  const { affine, blockSize } = BLOCK_TYPES[type];
  return new LmqError('export/unsupported', `${type} does not hold these values`, {
    op: 'convert',
    tensor: name,
    expected: affine
      ? `symmetric ${affine.bits}-bit codes, fp16 scales, groups in order of a multiple of ${blockSize} columns`
      : `blocks of ${type}`,
    found: layoutName(t),
    hint: 'Rounding quantized weights again adds a second error: export to lmq or gguf:f32, or quantize the original model.',
  });
}
