/**
 * What comes after the last block: logits = head · norm(x). The pieces that quantizing the head needs.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import type { Backend, Handle, Linear, Scope } from '@lmq/tensor';
import { readNorm, readWeight } from './_weights.js';
import type { Architecture, Site } from './api.js';
import { siteShape } from './architecture.js';
import { rmsNormBackward } from './backward/rms-norm.js';

/** The head as a site: `lm_head`, one layer after the last block. When embeddings are tied, its tensor is the embedding matrix. */
export function headSite({ layers, tensors }: Architecture): Site {
  return { name: 'lm_head', layer: layers, role: 'head', tensor: tensors.head, input: 'head' };
}

/**
 * Reads the head's weight [vocab, hidden] as it is stored.
 * @throws LmqError as `loadBlock`
 */
export async function readHead(checkpoint: Checkpoint, architecture: Architecture): Promise<Linear> {
  const site = headSite(architecture);
  const input = checkpoint.inputs?.get(site.tensor);
  return { weight: await readWeight(checkpoint, site.tensor, siteShape(architecture, site), 'readHead'), ...(input && { input }) };
}

/** The norm before the head. Belongs to the caller. */
export interface FinalNorm {
  /** x [tokens, hidden] of the last block → what the head reads, of the same shape, made in `s`. */
  forward(s: Scope, x: Handle): Handle;
  /** The gradient by what the head reads → that by x, of the same shape, in `s`. */
  backward(s: Scope, x: Handle, dOut: Handle): Promise<Handle>;
  dispose(): void;
}

/**
 * Loads the final norm into a backend.
 * @throws LmqError as `loadBlock`
 */
export async function loadFinalNorm(checkpoint: Checkpoint, architecture: Architecture, backend: Backend): Promise<FinalNorm> {
  const { tensors, hidden, norm } = architecture;
  const weight = await readNorm(checkpoint, tensors.finalNorm, hidden, norm.plusOne, 'loadFinalNorm');
  const home = backend.scope();
  const loaded = home.upload(weight);
  return {
    forward: (s, x) => s.rmsNorm(x, loaded, norm.eps),
    backward: async (s, x, dOut) => (await rmsNormBackward(s, x, loaded, dOut, norm.eps)).dx,
    dispose: () => home.dispose(),
  };
}
