/**
 * Search of the scales of four sub-blocks of 16 weights with symmetric codes -32 … 31, where an error costs the weight's square: formats'
 * `_qx.ts`, a sub-block a lane (subBlocks.ts).
 * @module
 */
import { levels } from './subBlocks';

const SIZE: usize = 16;
const BYTES: usize = SIZE * 16;
const costs = memory.data(256, 16);
const costsV = memory.data(256, 16);

/**
 * @param x the sub-blocks, side by side
 * @param inverses 4 floats: reciprocals of the scales before they are refitted, which give the codes of the search; 0 where all are nearly zero
 * @returns the scales; NaN or infinite where sums overflow
 */
export function searchScale(x: usize, inverses: usize): v128 {
  const zero = f32x4.splat(0);
  const low = f32x4.splat(-32);
  const high = f32x4.splat(31);
  let max = v128.load(x);
  for (let i: usize = 0; i < BYTES; i += 16) {
    const v = v128.load(x + i);
    max = v128.bitselect(v, max, f32x4.gt(f32x4.abs(v), f32x4.abs(max)));
    const cost = f32x4.mul(v, v);
    v128.store(costs + i, cost);
    v128.store(costsV + i, f32x4.mul(cost, v));
  }

  // no step first, as the one to beat
  let chosen = f32x4.div(low, max);
  let xl = zero;
  let ll = zero;
  for (let i: usize = 0; i < BYTES; i += 16) {
    const l = levels(f32x4.mul(v128.load(x + i), chosen), low, high);
    xl = f32x4.add(xl, f32x4.mul(v128.load(costsV + i), l));
    ll = f32x4.add(ll, f32x4.mul(f32x4.mul(v128.load(costs + i), l), l));
  }
  let scale = v128.and(f32x4.div(xl, ll), f32x4.gt(ll, zero));
  scale = v128.or(scale, v128.not(f32x4.lt(ll, f32x4.splat(Infinity)))); // all bits set: NaN
  let best = f32x4.mul(scale, xl);

  // then 0.9 … 0.1 less and 0.1 … 0.9 more, two at a time
  for (let k = 0; k < 18; k += 2) {
    const inverse0 = f32x4.div(f32x4.splat(tried(k)), max);
    const inverse1 = f32x4.div(f32x4.splat(tried(k + 1)), max);
    let xl0 = zero;
    let ll0 = zero;
    let xl1 = zero;
    let ll1 = zero;
    for (let i: usize = 0; i < BYTES; i += 16) {
      const v = v128.load(x + i);
      const cost = v128.load(costs + i);
      const costV = v128.load(costsV + i);
      const l0 = levels(f32x4.mul(v, inverse0), low, high);
      const l1 = levels(f32x4.mul(v, inverse1), low, high);
      xl0 = f32x4.add(xl0, f32x4.mul(costV, l0));
      xl1 = f32x4.add(xl1, f32x4.mul(costV, l1));
      ll0 = f32x4.add(ll0, f32x4.mul(f32x4.mul(cost, l0), l0));
      ll1 = f32x4.add(ll1, f32x4.mul(f32x4.mul(cost, l1), l1));
    }
    let better = v128.and(f32x4.gt(ll0, zero), f32x4.gt(f32x4.mul(xl0, xl0), f32x4.mul(best, ll0)));
    scale = v128.bitselect(f32x4.div(xl0, ll0), scale, better);
    best = v128.bitselect(f32x4.mul(scale, xl0), best, better);
    chosen = v128.bitselect(inverse0, chosen, better);
    better = v128.and(f32x4.gt(ll1, zero), f32x4.gt(f32x4.mul(xl1, xl1), f32x4.mul(best, ll1)));
    scale = v128.bitselect(f32x4.div(xl1, ll1), scale, better);
    best = v128.bitselect(f32x4.mul(scale, xl1), best, better);
    chosen = v128.bitselect(inverse1, chosen, better);
  }
  const some = f32x4.ge(f32x4.abs(max), f32x4.splat(1e-15));
  v128.store(inverses, v128.and(chosen, some));
  return v128.and(scale, some);
}

/** -(32 + k tenths), k = -9 … -1, 1 … 9. */
// @ts-ignore: decorator
@inline
function tried(k: i32): f32 {
  const step: f32 = <f32>(k < 9 ? k - 9 : k - 8);
  return -(<f32>32 + <f32>0.1 * step);
}
