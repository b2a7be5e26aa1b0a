/**
 * Looks at every weight before any work, so that what is wrong with the last one is known before hours of work.
 * @module
 */
import { type Checkpoint, guardNonFinite, type NonFiniteFound, type NonFinitePolicy } from '@lmq/checkpoints';
import { createPhase, type LongCallOpts } from '@lmq/tensor';

export interface NonFiniteOpts {
  /** What to do about weights that are NaN or infinite, wherever in the model; see `guardNonFinite`. Default `error`. */
  nonFinite?: NonFinitePolicy;
  /** Told of each tensor that holds some, before any work. */
  onNonFinite?: (found: NonFiniteFound) => void;
}

/**
 * Reads every tensor once, telling `onNonFinite`.
 * @returns the checkpoint under the policy, which tells nobody a second time
 * @throws LmqError `argument/value` under `error` for the first tensor that holds NaN or infinity
 */
export async function guardWeights(
  checkpoint: Checkpoint,
  { nonFinite = 'error', onNonFinite, ...opts }: NonFiniteOpts & LongCallOpts,
): Promise<Checkpoint> {
  const seen = guardNonFinite(checkpoint, nonFinite, onNonFinite);
  const done = createPhase('look for NaN', seen.tensors.size, 'tensors', opts);
  let read = 0;
  for (const name of seen.tensors.keys()) {
    await seen.read(name);
    done(++read, name);
  }
  return guardNonFinite(checkpoint, nonFinite);
}
