/**
 * A gated MLP (Shazeer 2020): down(activation(gate x) * up x), of a block or of one expert.
 * @module
 */
import type { Handle, Scope } from '@lmq/tensor';
import type { Block, BlockContext, LoadedSite } from './api.js';

/** x [tokens, hidden] → the same shape, in `t`. */
export async function mlp(t: Scope, s: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext, expert?: number): Promise<Handle> {
  const gate = block.at('gate', expert);
  ctx.tap?.(gate.site.input, x);
  const act = t.glu(t.linear(x, gate.loaded), t.linear(x, block.at('up', expert).loaded), ctx.architecture.mlp.activation);
  await s.flush(); // `s` has the caller's signal
  const down = block.at('down', expert);
  ctx.tap?.(down.site.input, act);
  return t.linear(act, down.loaded);
}
