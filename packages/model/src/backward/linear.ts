/**
 * Gradients of a linear layer Y = X Wᵀ + b: dX = dY W and dW = dYᵀ X, each one matrix product of 2 tokens · out · in operations, as many as
 * the layer itself. float32 accumulators of the backend's gemm.
 * @module
 */
import type { Handle, LoadedLinear, Scope } from '@lmq/tensor';

/** Decoded weights held at a time: 16 MiB. */
const TILE_ELEMENTS = 2 ** 22;

/**
 * dX = dY W. Whatever the layout of the weight: rows are decoded a tile at a time.
 * @param dy [tokens, out]
 * @param into takes the result on top of what it holds; absent: a new handle of `s`
 * @returns [tokens, in]
 */
export function linearInputGradient(s: Scope, dy: Handle, w: LoadedLinear, into?: Handle): Handle {
  const dx = into ?? s.alloc(dy.rows, w.in);
  const step = Math.max(1, Math.min(w.out, Math.floor(TILE_ELEMENTS / w.in)));
  for (let from = 0; from < w.out; from += step) {
    const count = Math.min(step, w.out - from);
    const rows = s.embedding(
      w,
      Int32Array.from({ length: count }, (_, i) => from + i),
    );
    s.gemm(s.view(dy, [0, dy.rows], [from, from + count]), rows, { out: dx, beta: 1 });
    s.free(rows);
  }
  return dx;
}

/**
 * dW = dYᵀ X.
 * @param dy [tokens, out]
 * @param x [tokens, in]
 * @returns [out, in], in `s`
 */
export function linearWeightGradient(s: Scope, dy: Handle, x: Handle): Handle {
  return s.gemm(dy, x, { transposeA: true });
}
