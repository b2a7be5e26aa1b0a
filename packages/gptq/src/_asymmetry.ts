/**
 * GPTAQ (Li et al. 2025, arXiv 2504.02692): the sweep of GPTQ, aimed at the output of the float model. With C = Σ (X̃ − X) Xᵀ (channels
 * first) and P = α triu(C Uᵀ, 1) U, each column, when the sweep reaches it, also hands on w_i P_ij to the columns after it.
 *
 * No new sweep is needed. A column that is reached holds w = w⁰ − e U' + w P, where U' is U without its diagonal: so
 * w = (w⁰ − e U') (I − P)⁻¹, and an ordinary sweep of W (I − P)⁻¹ with the factor diag(U) + U' (I − P)⁻¹ does all of it, with the errors,
 * codes and values of the column by column rule, up to float order.
 *
 * Differences from the published code: it hands on w_i inside a block, but the quantized weights q_i = w_i − e_i U_ii from block to block, so
 * that its result depends on the block size; here it is w_i everywhere. `cut` brings the published rule back: q P = w P − e diag(U) P adds
 * diag(U) P between blocks to U'.
 *
 * In place, float32 products by the backend; blocks on the diagonal are inverted in float64. About in³ + out · in² / 2 multiply-adds.
 * @module
 */
import { writeDiagonal } from '@lmq/quant-core';
import { type Handle, ndarray, type Scope } from '@lmq/tensor';

const TILE = 128;

/**
 * Turns a sweep into GPTAQ's.
 * @param w [out, in], overwritten
 * @param u [in, in], H⁻¹ = Uᵀ U, overwritten with the factor to sweep with; its diagonal stays
 * @param c [in, in], the cross term in the order of `u`, overwritten with P
 * @param cut block size of the published rule; null: the rule that does not depend on blocks
 */
export async function aim(s: Scope, w: Handle, u: Handle, c: Handle, alpha: number, cut: number | null): Promise<void> {
  const n = u.rows;
  const diagonal = await drift(s, u, c, alpha);
  writeDiagonal(s, u, () => 0);
  if (cut !== null) {
    for (let from = 0; from + cut < n; from += cut) {
      const to = from + cut;
      const rest = s.view(u, [from, to], [to, n]);
      const p = s.view(c, [from, to], [to, n]);
      const rows = Int32Array.from({ length: cut }, (_, i) => i);
      s.scatterAdd(rest, p, rows, diagonal.subarray(from, to));
      s.free(rest);
      s.free(p);
    }
  }
  await follow(s, w, c, () => w.rows);
  await follow(s, u, c, (end) => end);
  writeDiagonal(s, u, (i) => diagonal[i]!);
}

/** c ← P = α triu(C Uᵀ, 1) U, a block row at a time. Returns the diagonal of U. */
async function drift(s: Scope, u: Handle, c: Handle, alpha: number): Promise<Float32Array> {
  const n = u.rows;
  const diagonal = new Float32Array(n);
  for (let from = 0; from < n; from += TILE) {
    const to = Math.min(from + TILE, n);
    const size = to - from;
    const right = s.view(c, [from, to], [from, n]);
    const below = s.view(u, [from, n], [from, n]);
    const product = s.gemm(right, below, { transposeB: true });
    const corner = s.view(product, [0, size], [0, size]);
    const own = s.view(u, [from, to], [from, to]);
    const block = await s.read(corner);
    const factor = await s.read(own);
    for (let i = 0; i < size; i++) {
      block.data.fill(0, i * size, i * size + i + 1);
      diagonal[from + i] = factor.data[i * size + i]!;
    }
    s.write(corner, block);
    s.gemm(product, below, { alpha, out: right });
    if (from > 0) {
      const left = s.view(c, [from, to], [0, from]);
      s.write(left, ndarray(new Float32Array(size * from), [size, from]));
      s.free(left);
    }
    for (const h of [corner, product, own, right, below]) s.free(h);
    await s.flush();
  }
  return diagonal;
}

/**
 * x ← x (I − P)⁻¹ by forward substitution over blocks of columns.
 * @param rowsOf rows that are not zero up to column `end`
 */
export async function follow(s: Scope, x: Handle, p: Handle, rowsOf: (end: number) => number): Promise<void> {
  const n = x.cols;
  for (let from = 0; from < n; from += TILE) {
    const to = Math.min(from + TILE, n);
    const rows: [number, number] = [0, rowsOf(to)];
    const here = s.view(x, rows, [from, to]);
    if (from > 0) {
      const before = s.view(x, rows, [0, from]);
      const above = s.view(p, [0, from], [from, to]);
      s.gemm(before, above, { beta: 1, out: here });
      s.free(before);
      s.free(above);
    }
    const own = s.view(p, [from, to], [from, to]);
    const inverse = s.upload(ndarray(unitInverse((await s.read(own)).data, to - from), [to - from, to - from]));
    const value = s.copy(here);
    s.gemm(value, inverse, { out: here });
    for (const h of [value, inverse, own, here]) s.free(h);
    await s.flush();
  }
}

/** (I − P)⁻¹ of a strictly upper triangular P: X_ij = P_ij + Σ_{i<k<j} X_ik P_kj. */
function unitInverse(p: Float32Array, n: number): Float32Array {
  const x = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    x[i * n + i] = 1;
    for (let j = i + 1; j < n; j++) {
      let sum = 0;
      for (let k = i; k < j; k++) sum += x[i * n + k]! * p[k * n + j]!;
      x[i * n + j] = sum;
    }
  }
  return Float32Array.from(x);
}

/**
 * Weights of columns [from, to) as they are when the sweep begins at `from`, without what these columns will still hand on to each other.
 * @param x the same columns of the swept matrix
 */
export function atRest(s: Scope, x: Handle, p: Handle, from: number, to: number): Handle {
  const own = s.view(p, [from, to], [from, to]);
  const out = s.copy(x);
  s.gemm(x, own, { alpha: -1, beta: 1, out });
  s.free(own);
  return out;
}
