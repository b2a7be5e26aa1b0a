/**
 * What an export to ONNX makes of tensors that are stored in another way already.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { affineToMatMulNBits, layoutName } from '@lmq/formats';
import { type Architecture, headSite } from '@lmq/model';
import { type CompressedTensor, createPhase, isLmqError, LmqError, type LongCallOpts } from '@lmq/tensor';
import { asAffine } from '../_folders/affine.js';
import { toDense } from '../_folders/safetensors.js';
import { type Change, changeOf } from './changes.js';

/** Reads every tensor once. @returns what becomes of each, and why some cannot be stored */
export async function planOnnxChanges(
  checkpoint: Checkpoint,
  architecture: Architecture,
  opts: LongCallOpts,
): Promise<{ changes: Change[]; refused: LmqError[] }> {
  const linears = new Set([...architecture.sites, headSite(architecture)].map((s) => s.tensor));
  const done = createPhase('look at the weights', checkpoint.tensors.size, 'tensors', opts);
  const changes: Change[] = [];
  const refused: LmqError[] = [];
  for (const [name, info] of checkpoint.tensors) {
    opts.signal?.throwIfAborted();
    const t = await checkpoint.read(name);
    done(changes.length + 1, name);
    if (t.kind === 'dense') changes.push(changeOf(name, info, t, toDense(name, t, 'fp32')));
    else if (!linears.has(name) || name === architecture.tensors.embedding)
      changes.push({ tensor: name, from: info.format, to: 'fp32', effect: 'exact', detail: 'decoded: only linears are quantized in ONNX' });
    else {
      const error = refusal(name, t);
      if (error) refused.push(error);
      changes.push({
        tensor: name,
        from: info.format,
        to: 'MatMulNBits',
        ...(error ? { effect: 'refused', detail: error.message } : { effect: 'exact' }),
      });
    }
  }
  return { changes, refused };
}

/** Why the operator cannot hold a weight; undefined when it can. */
function refusal(name: string, tensor: CompressedTensor): LmqError | undefined {
  const t = asAffine(tensor);
  if (t.kind !== 'affine') {
    return new LmqError('export/unsupported', 'onnx does not hold these values', {
      op: 'convert',
      tensor: name,
      expected: 'uniform integers of 4 or 8 bits',
      found: layoutName(t),
      hint: 'Decode it with --export safetensors, or quantize the original model.',
    });
  }
  try {
    affineToMatMulNBits(t);
    return undefined;
  } catch (e) {
    if (isLmqError(e)) return new LmqError('export/unsupported', e.message, { ...e.facts, op: 'convert', tensor: name });
    throw e;
  }
}
