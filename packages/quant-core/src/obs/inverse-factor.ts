/**
 * Upper triangular U with H⁻¹ = Uᵀ U, which GPTQ and SparseGPT sweep with.
 *
 * The references factor H, invert it and factor the inverse. Reversing the order of the indices gives U with one factorization and one
 * triangular inverse: with J the reversal, J H J = L Lᵀ, so H = (J L J)(J L J)ᵀ with J L J upper triangular, and
 * U = (J L J)⁻¹ = J L⁻¹ J. About 2 n³ / 3 multiply-adds instead of n³, and H⁻¹, whose rounding errors are the square of U's, is never formed.
 * @module
 */
import { type Handle, LmqError, type Scope } from '@lmq/tensor';

/**
 * Factors the inverse of `h`. `h` is left as it is; two n x n matrices are taken while working.
 * @param h symmetric [n, n]
 * @param order columns of the factor in this order of h's columns (act-order). Default: h's own
 * @returns `factor` U [n, n], or null when h is not positive definite
 */
export function inverseFactor(s: Scope, h: Handle, order?: ArrayLike<number>): { factor: Handle | null } {
  const n = h.rows;
  if (h.cols !== n)
    throw new LmqError('argument/shape', 'h is not square', { op: 'inverseFactor', expected: `${n} x ${n}`, found: `${n} x ${h.cols}` });
  if (order && order.length !== n) {
    throw new LmqError('argument/shape', 'order does not fit h', { op: 'inverseFactor', expected: n, found: order.length });
  }
  const back = Int32Array.from({ length: n }, (_, i) => n - 1 - i);
  const reversed = order ? back.map((i) => order[i]!) : back;
  const turned = s.select(h, reversed, reversed);
  const { factor: l, ok } = s.cholesky(turned);
  s.free(turned);
  if (!ok) {
    s.free(l);
    return { factor: null };
  }
  const inverse = s.triangularInverse(l);
  s.free(l);
  const factor = s.select(inverse, back, back);
  s.free(inverse);
  return { factor };
}
