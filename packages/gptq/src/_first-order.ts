/**
 * FOEM (Zheng et al. 2025, "First-Order Error Matters: Accurate Compensation for Quantized Large Language Models", arXiv 2507.11017;
 * ModelCloud/GPTQModel, foem.py, with its alpha at 0): what the sweep has added to a weight is itself an error, and part of it, beta, is taken
 * back: from each weight w when the sweep reaches it, w⁰ + a becoming w⁰ + (1 − β) a, and from what its column hands on,
 * e − β (w − w⁰) / U_ii in place of e.
 *
 * No new sweep is needed. With U' the factor without its diagonal D, N = 1 − β, and C = β N D⁻¹, a = −e U' (I − C U')⁻¹: so an ordinary sweep
 * with the factor D + U' (I − C U')⁻¹ N does it, with the errors, codes and values of the column by column rule, up to float order.
 *
 * Difference from the published code: it takes nothing back from the first column of each block, so that its result depends on the block
 * size. `cut` brings that back. In place, float32 products by the backend; about in³ / 3 multiply-adds.
 * @module
 */
import { writeDiagonal } from '@lmq/quant-core';
import type { Handle, Scope } from '@lmq/tensor';
import { follow } from './_asymmetry.js';

const STRIP = 128;

/**
 * Turns the factor of a sweep into FOEM's.
 * @param u [in, in], H⁻¹ = Uᵀ U, overwritten; its diagonal stays
 * @param cut block size of the published rule; null: the rule that does not depend on blocks
 */
export async function holdBack(s: Scope, u: Handle, beta: number, cut: number | null): Promise<void> {
  const n = u.rows;
  const kept = (i: number) => (cut !== null && i % cut === 0 ? 1 : 1 - beta);
  const diagonal = new Float32Array(n);
  const c = s.alloc(n, n);
  await eachStrip(s, u, c, (row, i) => {
    diagonal[i] = row[i]!;
    row[i] = 0;
    const factor = (beta * kept(i)) / diagonal[i]!;
    for (let j = i + 1; j < n; j++) row[j]! *= factor;
  });
  writeDiagonal(s, u, () => 0);
  await follow(s, u, c, (end) => end);
  s.free(c);
  await eachStrip(s, u, u, (row) => {
    for (let j = 0; j < n; j++) row[j]! *= kept(j);
  });
  writeDiagonal(s, u, (i) => diagonal[i]!);
}

/** Passes every row of `from` through `change` and writes it to `to`. */
async function eachStrip(s: Scope, from: Handle, to: Handle, change: (row: Float32Array, i: number) => void): Promise<void> {
  const n = from.cols;
  for (let start = 0; start < n; start += STRIP) {
    const rows: [number, number] = [start, Math.min(start + STRIP, n)];
    const source = s.view(from, rows);
    const strip = await s.read(source);
    for (let i = rows[0]; i < rows[1]; i++) change(strip.data.subarray((i - start) * n, (i - start + 1) * n), i);
    const target = s.view(to, rows);
    s.write(target, strip);
    s.free(source);
    s.free(target);
  }
}
