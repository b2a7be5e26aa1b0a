/**
 * The check of weights before they are quantized.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/** Throws `argument/value`, naming row and column, when a weight is NaN or infinite. */
export function expectFiniteWeights(values: ArrayLike<number>, cols: number, op: string): void {
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue;
    throw new LmqError('argument/value', `weight [${Math.floor(i / cols)}, ${i % cols}] is not finite`, { op, found: values[i] });
  }
}
