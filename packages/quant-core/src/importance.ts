/**
 * Importance of input columns: E[x²] of the layer's input, an importance matrix's row, the diagonal of a Hessian. Only ratios count.
 * @module
 */
import { LmqError, type Tensor } from '@lmq/tensor';

/**
 * Importances as weights of errors.
 * @returns null when all are zero, which says nothing: columns then count alike
 * @throws LmqError `argument/option` when there are none, `argument/shape`, `argument/value` for one that is negative or not finite
 */
export function importanceWeights(importance: ArrayLike<number> | undefined, cols: number): Float64Array | null {
  if (!importance) {
    throw new LmqError('argument/option', "clip 'imatrix' needs the importance of each input", {
      op: 'findParams',
      hint: 'Give importances or a Hessian (calibrate), or choose another clip.',
    });
  }
  if (importance.length !== cols) {
    throw new LmqError('argument/shape', 'importances do not fit the weight', {
      op: 'findParams',
      expected: `${cols}, one for each input`,
      found: importance.length,
    });
  }
  const out = Float64Array.from(importance);
  const bad = out.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY));
  if (bad >= 0) {
    throw new LmqError('argument/value', `the importance of input ${bad} is no sum of squares`, { op: 'findParams', found: out[bad] });
  }
  return out.some((v) => v > 0) ? out : null;
}

/** The diagonal of a Hessian. */
export function diagonalOf(h: Tensor): Float64Array {
  return Float64Array.from({ length: Math.min(...h.shape) }, (_, i) => h.data[h.offset + i * (h.stride[0]! + h.stride[1]!)]!);
}
