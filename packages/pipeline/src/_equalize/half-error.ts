/**
 * How far the output of one half of a block is from the float model's when other weights take the place of some.
 * @module
 */

import { dense } from '@lmq/formats';
import { attentionForward, type Block, mlpForward, type ScalingPair } from '@lmq/model';
import type { Matrix } from '@lmq/tensor';
import type { WindowRun } from '../_windows.js';
import type { ActivationStore } from '../activations.js';

/** Activations around the two halves of a block. */
export interface HalfStreams {
  inputs: ActivationStore;
  /** After the attention: the MLP's input. */
  attention: ActivationStore;
  outputs: ActivationStore;
}

/**
 * Squared error of what the half adds to the residual stream, relative to that. Runs all windows; the block is as before afterwards.
 * @returns takes the weights of `pair.to`, in order
 */
export function halfError(
  run: WindowRun,
  block: Block,
  { half, to }: Pick<ScalingPair, 'half' | 'to'>,
  { inputs, attention, outputs }: HalfStreams,
): (weights: readonly Matrix[]) => Promise<number> {
  const [from, target] = half === 'attention' ? [inputs, attention] : [attention, outputs];
  const forward = half === 'attention' ? attentionForward : mlpForward;
  return async (weights) => {
    const originals = to.map((site) => block.linears.get(site.name)!.linear);
    let errors = 0;
    let whole = 0;
    try {
      for (const [i, { data, shape }] of weights.entries()) {
        block.setLinear(to[i]!.name, { ...originals[i]!, weight: dense('fp32', data, shape[0]!, shape[1]!) });
      }
      await run.eachWindow(`search scales in block ${block.layer}`, async (s, i) => {
        const x = await run.upload(s, from, i);
        const { data: found } = await s.read(await forward(s, block, x, run.context));
        const [start, want] = [await from.get(i), await target.get(i)];
        for (let j = 0; j < found.length; j++) {
          errors += (found[j]! - want[j]!) ** 2;
          whole += (want[j]! - start[j]!) ** 2;
        }
      });
    } finally {
      for (const [i, site] of to.entries()) block.setLinear(site.name, originals[i]!);
    }
    return errors === 0 ? 0 : errors / whole;
  };
}
