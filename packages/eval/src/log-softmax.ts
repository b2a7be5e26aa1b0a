/**
 * Losses and divergences of rows of logits. Logits are float32; everything after reading one is double, with the row's maximum taken out.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/**
 * ln Σ exp(x_i) of one row.
 * @throws LmqError `argument/value` when the row holds NaN or no finite maximum
 */
export function logSumExp(x: Float32Array, offset: number, n: number): number {
  let max = -Infinity;
  for (let i = 0; i < n; i++) if (x[offset + i]! > max) max = x[offset + i]!;
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.exp(x[offset + i]! - max);
  const result = max + Math.log(sum);
  if (Number.isFinite(result)) return result;
  throw new LmqError('argument/value', "the model's logits are not finite", {
    op: 'logSumExp',
    hint: 'Activations overflowed or weights are damaged.',
  });
}

/** −ln softmax(x)[target], in nats. */
export function negativeLogLikelihood(x: Float32Array, offset: number, n: number, target: number): number {
  return logSumExp(x, offset, n) - x[offset + target]!;
}

/**
 * KL(softmax(p) ‖ softmax(q)) = Σ p_i (ln p_i − ln q_i), in nats. Exactly 0 for equal logits.
 * @param pSum logSumExp of p's row, `qSum` of q's: the caller has them already
 */
export function klDivergence(p: Float32Array, pSum: number, q: Float32Array, qSum: number, offset: number, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const lp = p[offset + i]! - pSum;
    const term = Math.exp(lp);
    if (term > 0) sum += term * (lp - (q[offset + i]! - qSum));
  }
  return sum;
}

/** Index of the largest of a row; the lowest of equal ones. */
export function rowArgmax(x: Float32Array, offset: number, n: number): number {
  let best = 0;
  for (let i = 1; i < n; i++) if (x[offset + i]! > x[offset + best]!) best = i;
  return best;
}
