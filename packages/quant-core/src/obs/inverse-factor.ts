/**
 * Upper triangular U with H⁻¹ = Uᵀ U, which GPTQ and SparseGPT sweep with.
 *
 * The references factor H, invert it and factor the inverse. Reversing the order of the indices gives U with one factorization and one
 * triangular inverse: with J the reversal, J H J = L Lᵀ, so H = (J L J)(J L J)ᵀ with J L J upper triangular, and
 * U = (J L J)⁻¹ = J L⁻¹ J. About 2 n³ / 3 multiply-adds instead of n³, and H⁻¹, whose rounding errors are the square of U's, is never formed.
 * @module
 */
import { type Handle, LmqError, ndarray, type Scope } from '@lmq/tensor';

/**
 * Factors the inverse of `h`. `h` is left as it is; at most two n x n matrices are held besides it while working, and one afterwards.
 * @param h symmetric [n, n]
 * @param order columns of the factor in this order of h's columns (act-order). Default: h's own
 * @param diagonal stands for the diagonal of `h`, in h's order. Default: h's own
 * @returns `factor` U [n, n], or null when h is not positive definite
 */
export function inverseFactor(s: Scope, h: Handle, order?: ArrayLike<number>, diagonal?: ArrayLike<number>): { factor: Handle | null } {
  const n = h.rows;
  if (h.cols !== n)
    throw new LmqError('argument/shape', 'h is not square', { op: 'inverseFactor', expected: `${n} x ${n}`, found: `${n} x ${h.cols}` });
  for (const [name, list] of Object.entries({ order, diagonal })) {
    if (list && list.length !== n)
      throw new LmqError('argument/shape', `${name} does not fit h`, { op: 'inverseFactor', expected: n, found: list.length });
  }
  const back = Int32Array.from({ length: n }, (_, i) => n - 1 - i);
  const reversed = order ? back.map((i) => order[i]!) : back;
  const turned = s.select(h, reversed, reversed);
  if (diagonal) writeDiagonal(s, turned, (i) => diagonal[reversed[i]!]!);
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

/** Overwrites the diagonal of a square matrix in place, which costs no second matrix. */
export function writeDiagonal(s: Scope, h: Handle, value: (i: number) => number): void {
  const one = ndarray(new Float32Array(1), [1, 1]);
  for (let i = 0; i < h.rows; i++) {
    const at = s.view(h, [i, i + 1], [i, i + 1]);
    one.data[0] = value(i);
    s.write(at, one);
    s.free(at);
  }
}
