/**
 * Sparse mixture of experts as in Mixtral (Jiang et al. 2024, section 2.1): softmax over the router's logits, the k largest, normalised to
 * sum 1. Each expert sees the rows of the tokens that chose it. Experts run in index order, so the sum is formed in the same order whatever
 * the routes, and results are deterministic. Factors are computed in double and rounded once to float32 by the backend.
 * @module
 */
import { type Handle, LmqError, type Scope } from '@lmq/tensor';
import { mlp } from './_mlp.js';
import type { Block, BlockContext, LoadedSite } from './api.js';

/** Where tokens go. */
export interface Routes {
  /** [tokens, k] expert indices, row-major, most probable first; equal probabilities in index order. */
  top: Int32Array;
  /** [tokens, k] factors, each row summing to 1. */
  factors: Float64Array;
}

/**
 * Picks each token's k most probable experts.
 * @param probabilities [tokens, experts] row-major
 * @throws LmqError `argument/value` when a probability is NaN
 */
export function chooseExperts(probabilities: Float32Array, experts: number, k: number): Routes {
  const tokens = probabilities.length / experts;
  const top = new Int32Array(tokens * k);
  const factors = new Float64Array(tokens * k);
  for (let t = 0; t < tokens; t++) {
    let sum = 0;
    for (let j = 0; j < k; j++) {
      let best = -1;
      let most = -1;
      for (let e = 0; e < experts; e++) {
        const p = probabilities[t * experts + e]!;
        if (!(p > most)) continue;
        let taken = false;
        for (let i = 0; i < j; i++) if (top[t * k + i] === e) taken = true;
        if (taken) continue;
        best = e;
        most = p;
      }
      if (best < 0) {
        throw new LmqError('argument/value', `the router's probabilities of token ${t} are not numbers`, {
          op: 'chooseExperts',
          hint: 'Activations overflowed: check the weights of the blocks before.',
        });
      }
      top[t * k + j] = best;
      factors[t * k + j] = most;
      sum += most;
    }
    for (let j = 0; j < k; j++) factors[t * k + j]! /= sum;
  }
  return { top, factors };
}

/** x [tokens, hidden] → x + the chosen experts' outputs, in `s`. */
export async function moeForward(s: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext): Promise<Handle> {
  const { experts, topK } = ctx.architecture.moe!;
  const t = s.backend.scope();
  try {
    const n = t.rmsNorm(x, block.norms.mlp, ctx.architecture.norm.eps);
    const router = block.at('router');
    ctx.tap?.(router.site.input, n);
    const { data } = await t.read(t.softmax(t.linear(n, router.loaded)));
    const { top, factors } = chooseExperts(data, experts, topK);
    ctx.onRoutes?.(block.layer, top);

    const out = t.copy(x);
    for (let e = 0; e < experts; e++) {
      const rows: number[] = [];
      const weights: number[] = [];
      for (let i = 0; i < top.length; i++) {
        if (top[i] !== e) continue;
        rows.push(Math.floor(i / topK));
        weights.push(factors[i]!);
      }
      if (!rows.length) continue;
      const own = s.backend.scope();
      try {
        const y = await mlp(own, s, block, own.select(n, rows), ctx, e);
        own.scatterAdd(out, y, rows, weights);
        await s.flush();
      } finally {
        own.dispose();
      }
    }
    return t.keep(out, s);
  } finally {
    t.dispose();
  }
}
