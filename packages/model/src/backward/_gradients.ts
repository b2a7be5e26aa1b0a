/**
 * What every linear and norm of a block does on the way back.
 * @module
 */
import type { Handle, Scope } from '@lmq/tensor';
import type { BackwardContext, Block, BlockNorms, LoadedSite } from '../api.js';
import { linearInputGradient, linearWeightGradient } from './linear.js';
import { rmsNormBackward } from './rms-norm.js';

/**
 * Reports a linear's weight gradient, if somebody asks, and returns that of its input, in `t`.
 * @param into takes the input's gradient on top of what it holds
 */
export async function throughLinear(
  t: Scope,
  { site, loaded }: LoadedSite,
  x: Handle,
  dy: Handle,
  { onWeightGradient }: BackwardContext,
  into?: Handle,
): Promise<Handle> {
  if (onWeightGradient) {
    const gradient = linearWeightGradient(t, dy, x);
    await onWeightGradient(site, gradient);
    t.free(gradient);
  }
  return linearInputGradient(t, dy, loaded, into);
}

/** The same of a norm. Absent norms pass the gradient on. */
export async function throughNorm(
  t: Scope,
  block: Block<LoadedSite>,
  norm: keyof BlockNorms,
  x: Handle,
  dy: Handle,
  { architecture, onNormGradient }: BackwardContext,
): Promise<Handle> {
  const weight = block.norms[norm];
  if (!weight) return dy;
  const { dx, dWeight } = await rmsNormBackward(t, x, weight, dy, architecture.norm.eps);
  onNormGradient?.(norm, dWeight);
  return dx;
}
