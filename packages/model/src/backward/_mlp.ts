/**
 * A gated MLP on the way back, of a block or of one expert.
 * @module
 */
import type { Handle, Scope } from '@lmq/tensor';
import type { BackwardContext, Block, LoadedSite } from '../api.js';
import { throughLinear } from './_gradients.js';
import { gluBackward } from './glu.js';

/** What the forward pass makes of x [tokens, hidden], in `t`. */
export interface MlpStates {
  x: Handle;
  gate: Handle;
  up: Handle;
  act: Handle;
  expert?: number;
}

export function mlpStates(t: Scope, block: Block<LoadedSite>, x: Handle, { architecture }: BackwardContext, expert?: number): MlpStates {
  const gate = t.linear(x, block.at('gate', expert).loaded);
  const up = t.linear(x, block.at('up', expert).loaded);
  return { x, gate, up, act: t.glu(gate, up, architecture.mlp.activation), ...(expert !== undefined && { expert }) };
}

/** dy [tokens, hidden] → the gradient of x, in `t`. */
export async function mlpBackward(
  t: Scope,
  block: Block<LoadedSite>,
  { x, gate, up, act, expert }: MlpStates,
  dy: Handle,
  ctx: BackwardContext,
): Promise<Handle> {
  const dAct = await throughLinear(t, block.at('down', expert), act, dy, ctx);
  const { dGate, dUp } = await gluBackward(t, gate, up, dAct, ctx.architecture.mlp.activation);
  const dx = await throughLinear(t, block.at('up', expert), x, dUp, ctx);
  return throughLinear(t, block.at('gate', expert), x, dGate, ctx, dx);
}
