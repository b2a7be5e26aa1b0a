/**
 * A mixture of experts on the way back. Which experts a token takes has no gradient; how they are weighed has: the factors f are a softmax over
 * the logits z of the chosen ones alone, so dz_j = f_j (df_j - Σ f df), with df_j the product of the output's gradient and what expert j said.
 * Experts run in index order, as on the way forward.
 * @module
 */
import { type Handle, matrix, type Scope } from '@lmq/tensor';
import type { BackwardContext, Block, LoadedSite } from '../api.js';
import { chooseExperts } from '../moe.js';
import { throughLinear } from './_gradients.js';
import { mlpBackward, mlpStates } from './_mlp.js';

/** n, dOut [tokens, hidden]: the normed input, and the gradient of the output → the gradient of n, in `t`. */
export async function moeBackward(
  t: Scope,
  s: Scope,
  block: Block<LoadedSite>,
  n: Handle,
  dOut: Handle,
  ctx: BackwardContext,
): Promise<Handle> {
  const { experts, topK } = ctx.architecture.moe!;
  const router = block.at('router');
  const { data } = await t.read(t.softmax(t.linear(n, router.loaded)));
  const { top, factors } = chooseExperts(data, experts, topK);
  const dFactors = new Float64Array(top.length);
  const dn = t.alloc(n.rows, n.cols);
  for (let e = 0; e < experts; e++) {
    const taken = [...top.keys()].filter((i) => top[i] === e); // token · topK + rank
    if (!taken.length) continue;
    const rows = taken.map((i) => Math.floor(i / topK));
    const own = s.backend.scope();
    try {
      const states = mlpStates(own, block, own.select(n, rows), ctx, e);
      const [{ data: y }, { data: dy }] = [
        await own.read(own.linear(states.act, block.at('down', e).loaded)),
        await own.read(own.select(dOut, rows)),
      ];
      for (const [r, i] of taken.entries()) {
        for (let c = r * n.cols; c < (r + 1) * n.cols; c++) {
          dFactors[i]! += dy[c]! * y[c]!;
          dy[c]! *= factors[i]!;
        }
      }
      own.scatterAdd(dn, await mlpBackward(own, block, states, own.upload(matrix(dy, rows.length, n.cols)), ctx), rows);
      await s.flush();
    } finally {
      own.dispose();
    }
  }
  const dLogits = new Float32Array(n.rows * experts);
  for (let i = 0; i < top.length; i += topK) {
    let mean = 0;
    for (let j = i; j < i + topK; j++) mean += factors[j]! * dFactors[j]!;
    for (let j = i; j < i + topK; j++) dLogits[(i / topK) * experts + top[j]!] = factors[j]! * (dFactors[j]! - mean);
  }
  return throughLinear(t, router, n, t.upload(matrix(dLogits, n.rows, experts)), ctx, dn);
}
