/**
 * Calibration windows: contiguous stretches of a token stream, drawn without overlap by a seeded shuffle.
 * @module
 */
import { createRng, LmqError } from '@lmq/tensor';

export interface WindowOpts {
  samples: number;
  seqLen: number;
  seed: number;
}

/**
 * Cuts `ids` into windows of `seqLen` tokens and draws `samples` of them. Fewer windows than samples: all are taken.
 * @throws LmqError `calibration/short` when there is not one window
 */
export function drawWindows(ids: ArrayLike<number>, { samples, seqLen, seed }: WindowOpts): Int32Array[] {
  const count = Math.floor(ids.length / seqLen);
  if (count === 0) {
    throw new LmqError('calibration/short', 'the calibration text is shorter than one window', {
      op: 'calibration',
      expected: `at least ${seqLen} tokens`,
      found: `${ids.length} tokens`,
      hint: 'Give more text, or a smaller seqLen.',
    });
  }
  const order = createRng(seed).shuffle(Array.from({ length: count }, (_, i) => i));
  return order.slice(0, samples).map((w) => Int32Array.from({ length: seqLen }, (_, i) => ids[w * seqLen + i]!));
}
