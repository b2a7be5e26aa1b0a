/**
 * GGUF block type Q8_0: 32 weights to 34 bytes, as formats' `block-types/q8_0.ts`.
 * @module
 */
import { largestLane, reciprocal, wholes } from './blockCodes';
import { toHalf } from './toHalf';

export function encodeQ8_0(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    let largest = f32x4.abs(v128.load(x));
    for (let at: usize = 16; at < 128; at += 16) largest = f32x4.pmax(largest, f32x4.abs(v128.load(x + at)));
    const d: f32 = largestLane(largest) / 127;
    const id = f32x4.splat(reciprocal(d));
    store<u16>(out, <u16>toHalf(d));
    for (let at: usize = 0; at < 128; at += 64) {
      const low = rounded(v128.load(x + at), v128.load(x + at, 16), id);
      const high = rounded(v128.load(x + at, 32), v128.load(x + at, 48), id);
      v128.store(out + 2 + (at >>> 2), i8x16.narrow_i16x8_s(low, high));
    }
    x += 128;
    out += 34;
  }
}

/** Half away from zero: halves, towards zero; one more away from zero; then whole steps towards zero. */
// @ts-ignore: decorator
@inline
function rounded(a: v128, b: v128, id: v128): v128 {
  const va = f32x4.mul(a, id);
  const vb = f32x4.mul(b, id);
  const halves = i16x8.narrow_i32x4_s(wholes(f32x4.trunc(f32x4.add(va, va))), wholes(f32x4.trunc(f32x4.add(vb, vb))));
  const more = i16x8.add(halves, v128.or(i16x8.shr_s(halves, 15), i16x8.splat(1)));
  return i16x8.shr_s(i16x8.add(more, i16x8.shr_u(more, 15)), 1);
}
