/**
 * The backward pass of one transformer block: from the gradient of a loss by its output to that by its input, and to those by its weights. What
 * the forward pass made in between is made again (gradient checkpointing: Chen et al. 2016, arXiv 1604.06174), so that nothing but the input of
 * each block has to be kept. Of 2 tokens · weights operations each: one forward pass, one product for the gradient of every linear's input,
 * and one for that of its weight where it is asked for.
 *
 * Weights may be compressed: gradients are those by the decoded weights. Linears whose input is quantized at run time have none and are refused.
 * @module
 */
import { type Handle, LmqError, type Scope } from '@lmq/tensor';
import { anglesOf, project, windowOf } from '../_project.js';
import type { BackwardContext, Block } from '../api.js';
import { throughLinear, throughNorm } from './_gradients.js';
import { mlpBackward, mlpStates } from './_mlp.js';
import { moeBackward } from './_moe.js';
import { attentionBackward } from './attention.js';
import { ropeBackward } from './rope.js';

/**
 * @param x, dOut [tokens, hidden]: the block's input, one sequence from its beginning, and the gradient by its output
 * @returns the gradient by x, of the same shape, in `s`
 * @throws LmqError `model/unsupported` for a linear whose input is quantized; `argument/shape`; `s`'s abort reason
 */
export async function blockBackward(s: Scope, block: Block, x: Handle, dOut: Handle, ctx: BackwardContext): Promise<Handle> {
  checkDifferentiable(block);
  if (dOut.rows !== x.rows || dOut.cols !== x.cols) {
    throw new LmqError('argument/shape', "the gradient does not fit the block's output", {
      op: 'blockBackward',
      expected: `${x.rows} x ${x.cols}`,
      found: `${dOut.rows} x ${dOut.cols}`,
    });
  }
  const { heads, kvHeads, headDim, attention: kind, rope, norm, moe } = ctx.architecture;
  const attention = { heads, kvHeads, headDim, scale: kind.scale, window: windowOf(block, ctx.architecture) };
  const t = s.backend.scope();
  try {
    // forward to the middle
    const { n, rawQ, rawK, q, k, v } = project(t, block, x, ctx);
    const mixed = t.attention(q, k, v, attention);
    await s.flush();
    const o = t.linear(mixed, block.at('o').loaded);
    const { attentionPost, mlpPost } = block.norms;
    const h = attentionPost ? t.rmsNorm(o, attentionPost, norm.eps) : t.copy(o);
    t.addTo(h, x);
    await s.flush();

    // back through the MLP or the experts
    const nh = t.rmsNorm(h, block.norms.mlp, norm.eps);
    let dn: Handle;
    if (moe) dn = await moeBackward(t, s, block, nh, dOut, ctx);
    else {
      const states = mlpStates(t, block, nh, ctx);
      const y = mlpPost ? t.linear(states.act, block.at('down').loaded) : states.act;
      dn = await mlpBackward(t, block, states, await throughNorm(t, block, 'mlpPost', y, dOut, ctx), ctx);
    }
    const dh = await throughNorm(t, block, 'mlp', h, dn, ctx);
    t.addTo(dh, dOut);
    await s.flush();

    // back through attention
    const dMixed = await throughLinear(t, block.at('o'), mixed, await throughNorm(t, block, 'attentionPost', o, dh, ctx), ctx);
    const { dq, dk, dv } = await attentionBackward(t, q, k, v, dMixed, attention);
    const { cos, sin } = anglesOf(block, ctx);
    for (const turned of [dq, dk]) ropeBackward(t, turned, cos, sin, { headDim, style: rope.style });
    const perHead = async (role: 'query' | 'key', raw: Handle, d: Handle): Promise<Handle> => {
      if (!block.norms[role]) return d;
      const rows = (raw.rows * raw.cols) / headDim;
      const back = await throughNorm(t, block, role, t.reshape(raw, rows, headDim), t.reshape(d, rows, headDim), ctx);
      return t.reshape(back, raw.rows, raw.cols);
    };
    const dx1 = await throughLinear(t, block.at('v'), n, dv, ctx);
    await throughLinear(t, block.at('k'), n, await perHead('key', rawK, dk), ctx, dx1);
    await throughLinear(t, block.at('q'), n, await perHead('query', rawQ, dq), ctx, dx1);
    const dx = await throughNorm(t, block, 'attention', x, dx1, ctx);
    t.addTo(dx, dh);
    await s.flush();
    return t.keep(dx, s);
  } finally {
    t.dispose();
  }
}

/** @throws LmqError `model/unsupported` */
function checkDifferentiable(block: Block): void {
  for (const { site, linear } of block.linears.values()) {
    if (!linear.input) continue;
    throw new LmqError('model/unsupported', 'a linear that rounds its input has no gradient', {
      op: 'blockBackward',
      tensor: site.tensor,
      found: linear.input.kind,
      hint: 'Take the model as it was before its inputs were quantized.',
    });
  }
}
