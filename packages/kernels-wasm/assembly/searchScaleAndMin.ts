/**
 * Search of scales and minimums of four sub-blocks of 32 weights, where an error costs the weight's magnitude plus the root mean square of
 * its sub-block: formats' `_qkx.ts` with the costs of `_k-header.ts`, a sub-block a lane (subBlocks.ts).
 * @module
 */
import { levels } from './subBlocks';

const SIZE: usize = 32;
const BYTES: usize = SIZE * 16;
const costs = memory.data(512, 16);
const codes = memory.data(512, 16);

/**
 * Scales that are tried: `(first + 0.1 * k + most) / range` for k = 0 … last.
 * @param x the sub-blocks, side by side
 * @param scales 4 floats: 0 where all weights are equal, or nearly zero; NaN where sums overflow
 * @param mins 4 floats: minimums, negated
 * @param inverses 4 floats, and bases 4: `(x - base) * inverse` gives the codes of the search
 */
export function searchScaleAndMin(
  x: usize,
  most: f32,
  first: f32,
  last: i32,
  scales: usize,
  mins: usize,
  inverses: usize,
  bases: usize,
): void {
  const zero = f32x4.splat(0);
  const high = f32x4.splat(most);
  let min = v128.load(x);
  let max = min;
  let squares = zero;
  for (let i: usize = 0; i < BYTES; i += 16) {
    const v = v128.load(x + i);
    min = f32x4.pmin(min, v);
    max = f32x4.pmax(max, v);
    squares = f32x4.add(squares, f32x4.mul(v, v));
  }
  const mean = f32x4.sqrt(f32x4.div(squares, f32x4.splat(32)));
  let sw = zero;
  let sx = zero;
  for (let i: usize = 0; i < BYTES; i += 16) {
    const v = v128.load(x + i);
    const cost = f32x4.add(mean, f32x4.abs(v));
    v128.store(costs + i, cost);
    sw = f32x4.add(sw, cost);
    sx = f32x4.add(sx, f32x4.mul(cost, v));
  }
  min = f32x4.pmin(zero, min);
  // sums that overflow: the reference would keep the range, whatever errors cost
  const reach = f32x4.mul(sw, f32x4.pmax(f32x4.pmax(high, max), f32x4.neg(min)));
  const fits = f32x4.lt(f32x4.mul(f32x4.mul(sw, high), reach), f32x4.splat(Infinity));
  let inverse = f32x4.div(high, f32x4.sub(max, min));
  const flat = v128.or(f32x4.eq(max, min), f32x4.eq(inverse, f32x4.splat(Infinity)));
  const lowest = min;

  // the whole range first, as the one to beat
  let base = min;
  let chosen = inverse;
  let scale = f32x4.div(f32x4.splat(1), inverse);
  let best = zero;
  for (let i: usize = 0; i < BYTES; i += 16) {
    const v = v128.load(x + i);
    const l = levels(f32x4.mul(f32x4.sub(v, min), inverse), zero, high);
    const diff = f32x4.sub(f32x4.add(f32x4.mul(scale, l), min), v);
    best = f32x4.add(best, f32x4.mul(v128.load(costs + i), f32x4.mul(diff, diff)));
  }

  for (let k = 0; k <= last; k++) {
    const top: f32 = first + <f32>0.1 * <f32>k + most;
    inverse = f32x4.div(f32x4.splat(top), f32x4.sub(max, min));
    let sl = zero;
    let sll = zero;
    let sxl = zero;
    for (let i: usize = 0; i < BYTES; i += 16) {
      const v = v128.load(x + i);
      const l = levels(f32x4.mul(f32x4.sub(v, min), inverse), zero, high);
      v128.store(codes + i, l);
      const wl = f32x4.mul(v128.load(costs + i), l);
      sl = f32x4.add(sl, wl);
      sll = f32x4.add(sll, f32x4.mul(wl, l));
      sxl = f32x4.add(sxl, f32x4.mul(wl, v));
    }
    const d = f32x4.sub(f32x4.mul(sw, sll), f32x4.mul(sl, sl));
    let newScale = f32x4.div(f32x4.sub(f32x4.mul(sw, sxl), f32x4.mul(sx, sl)), d);
    let newMin = f32x4.div(f32x4.sub(f32x4.mul(sll, sx), f32x4.mul(sl, sxl)), d);
    const above = f32x4.gt(newMin, zero);
    newScale = v128.bitselect(f32x4.div(sxl, sll), newScale, above);
    newMin = v128.andnot(newMin, above);
    let error = zero;
    for (let i: usize = 0; i < BYTES; i += 16) {
      const diff = f32x4.sub(f32x4.add(f32x4.mul(newScale, v128.load(codes + i)), newMin), v128.load(x + i));
      error = f32x4.add(error, f32x4.mul(v128.load(costs + i), f32x4.mul(diff, diff)));
    }
    const better = v128.and(f32x4.gt(d, zero), f32x4.lt(error, best));
    chosen = v128.bitselect(inverse, chosen, better);
    base = v128.bitselect(min, base, better);
    best = v128.bitselect(error, best, better);
    scale = v128.bitselect(newScale, scale, better);
    min = v128.bitselect(newMin, min, better);
  }
  min = v128.bitselect(lowest, min, flat);
  scale = v128.andnot(scale, flat);
  v128.store(scales, v128.or(scale, v128.not(fits))); // all bits set: NaN
  v128.store(mins, f32x4.neg(min));
  v128.store(inverses, v128.andnot(chosen, flat));
  v128.store(bases, base);
}
