/**
 * How far a compressed model's weights are from those of the original, linear by linear.
 * @module
 */
import type { Checkpoint, GgufFile } from '@lmq/checkpoints';
import { selectRows } from '@lmq/formats';
import type { Architecture, Site } from '@lmq/model';
import { type CompressedTensor, createPhase, LmqError, type LongCallOpts } from '@lmq/tensor';
import { readSite } from '../_hf-view.js';
import { relativeError } from './changes.js';

export interface LinearError {
  /** Hugging Face module name; the embeddings are `model.embed_tokens`. */
  name: string;
  /** Squared error relative to the squares of the original's weights. */
  error: number;
}

interface Weights {
  checkpoint: Checkpoint;
  architecture: Architecture;
}

/**
 * Errors of all linears in blocks, the embeddings and the head, worst first. Reads both models once, a weight at a time.
 * @throws LmqError `model/config` when the models are not of one architecture
 */
export async function compareLinears(model: Weights, original: Weights, opts: LongCallOpts = {}): Promise<LinearError[]> {
  const [found, expected] = [weightsOf(model), weightsOf(original)];
  const done = createPhase('compare', expected.size, 'linears', opts);
  const errors: LinearError[] = [];
  for (const [name, read] of expected) {
    opts.signal?.throwIfAborted();
    const [a, b] = [await found.get(name)?.(), await read()];
    if (a?.shape.join() !== b.shape.join())
      throw new LmqError('model/config', 'the two models are not of one architecture', {
        op: 'verify',
        tensor: name,
        expected: `[${b.shape.join(', ')}]`,
        found: a ? `[${a.shape.join(', ')}]` : 'no such linear',
      });
    errors.push({ name, error: relativeError(a!, b) });
    done(errors.length, name);
  }
  return errors.sort((a, b) => b.error - a.error);
}

/** Readers of a model's matrices, by their names in Hugging Face's order of rows. */
function weightsOf({ checkpoint, architecture: a }: Weights): Map<string, () => Promise<CompressedTensor>> {
  const out = new Map([['model.embed_tokens', () => checkpoint.read(a.tensors.embedding)]]);
  for (const site of a.sites)
    out.set(site.name, () => (checkpoint.format === 'gguf' ? readSite(checkpoint as GgufFile, a, site) : rowsOf(checkpoint, site)));
  if (!a.tied) out.set('lm_head', () => checkpoint.read(a.tensors.head));
  return out;
}

async function rowsOf(checkpoint: Checkpoint, { tensor, slice }: Site): Promise<CompressedTensor> {
  const t = await checkpoint.read(tensor);
  return slice
    ? selectRows(
        t,
        Uint32Array.from({ length: slice[1] - slice[0] }, (_, i) => slice[0] + i),
      )
    : t;
}
