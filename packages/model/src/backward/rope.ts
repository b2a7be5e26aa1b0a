/**
 * Gradient of rotary position embedding: the transpose of a rotation is the rotation by the opposite angle; a factor of cos and sin (YaRN) stays.
 * @module
 */
import type { Handle, RopeOpts, Scope } from '@lmq/tensor';

/**
 * Turns dx [tokens, heads * headDim] back, in place; positions begin at 0.
 * @param cos, sin the tables that x was turned by
 */
export function ropeBackward(s: Scope, dx: Handle, cos: Handle, sin: Handle, opts: Omit<RopeOpts, 'position'>): void {
  const opposite = s.alloc(dx.rows, sin.cols);
  s.addTo(opposite, s.view(sin, [0, dx.rows]), -1);
  s.rope(dx, s.view(cos, [0, dx.rows]), opposite, opts);
  s.free(opposite);
}
