/**
 * How much of the residual stream each half of a block makes: the mean over tokens of |h - x|² / |h|², where the half turns x into h. What reads the
 * stream next normalizes it token by token, so an error of a half's output counts by the share that the output has in the stream, not by its size.
 * @module
 */
import type { Role } from '@lmq/model';

/** Of one block, over the tokens that were added. */
export interface StreamShares {
  /** Adds a window: what the block reads, the stream after its attention, and what comes out, [tokens, hidden] each. */
  add(inputs: Float32Array, middle: Float32Array, outputs: Float32Array): void;
  /** Of the half that a linear is in; 0 to 1 where a half adds to what is there, more where it takes away. */
  of(role: Role): number;
}

export function createShares(hidden: number): StreamShares {
  const sums = { attention: 0, mlp: 0 };
  let tokens = 0;
  return {
    add(inputs, middle, outputs) {
      sums.attention += sumOfShares(inputs, middle, hidden);
      sums.mlp += sumOfShares(middle, outputs, hidden);
      tokens += inputs.length / hidden;
    },
    of: (role) => sums[role === 'q' || role === 'k' || role === 'v' || role === 'o' ? 'attention' : 'mlp'] / tokens,
  };
}

function sumOfShares(before: Float32Array, after: Float32Array, hidden: number): number {
  let sum = 0;
  for (let from = 0; from < after.length; from += hidden) {
    let made = 0;
    let whole = 0;
    for (let i = from; i < from + hidden; i++) {
      made += (after[i]! - before[i]!) ** 2;
      whole += after[i]! ** 2;
    }
    if (made > 0) sum += made / whole;
  }
  return sum;
}
