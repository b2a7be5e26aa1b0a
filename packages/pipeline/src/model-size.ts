/**
 * Sizes of a model as stored.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import type { Architecture } from '@lmq/model';
import { isDense } from './plan.js';

export interface ModelSize {
  parameters: number;
  /** Stored bytes of all tensors, everything that they need counted. */
  bytes: number;
  /** Over the linears inside blocks, routers left out, and the head where it is quantized and not the embedding matrix. */
  bitsPerWeight: number;
  /** Over all parameters. */
  fileBitsPerWeight: number;
}

/** Adds up what the checkpoint's headers say; reads no weights. */
export function modelSize(checkpoint: Checkpoint, architecture: Architecture): ModelSize {
  const linears = new Set(architecture.sites.filter((s) => s.role !== 'router').map((s) => s.tensor));
  const { head, embedding } = architecture.tensors;
  const stored = checkpoint.tensors.get(head);
  if (stored && !isDense(stored) && head !== embedding) linears.add(head);
  let parameters = 0;
  let bytes = 0;
  let linearBytes = 0;
  let linearWeights = 0;
  for (const [name, info] of checkpoint.tensors) {
    const n = info.shape.reduce((a, b) => a * b, 1);
    parameters += n;
    bytes += info.bytes;
    if (!linears.has(name)) continue;
    linearBytes += info.bytes;
    linearWeights += n;
  }
  return { parameters, bytes, bitsPerWeight: (linearBytes * 8) / linearWeights, fileBitsPerWeight: (bytes * 8) / parameters };
}
