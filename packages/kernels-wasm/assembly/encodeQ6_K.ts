/**
 * GGUF block type Q6_K: 256 weights to 210 bytes, as formats' `block-types/q6_k.ts`.
 * @module
 */
import { bytesOf } from './blockCodes';
import { oneHalf } from './half';
import { searchScale } from './searchScale';
import { levels, sideBySide } from './subBlocks';
import { toHalf } from './toHalf';

const lanes = memory.data(256, 16);
const scales = memory.data(64, 16);
const inverses = memory.data(64, 16);
const codes = memory.data(256, 16);

export function encodeQ6_K(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    encodeBlock(x, out);
    x += 1024;
    out += 210;
  }
}

function encodeBlock(x: usize, out: usize): void {
  let sum = f32x4.splat(0);
  for (let g: usize = 0; g < 4; g++) {
    sideBySide(x + (g << 8), 16, lanes);
    const found = searchScale(lanes, inverses + (g << 4));
    v128.store(scales + (g << 4), found);
    sum = f32x4.add(sum, f32x4.mul(found, f32x4.splat(0))); // NaN from NaN and infinity, else 0
  }
  if (v128.any_true(f32x4.ne(sum, sum))) {
    store<u16>(out, 0x7e00, 208); // sums overflowed: callers look for a d that is not finite
    return;
  }
  let max = load<f32>(scales);
  for (let j: usize = 4; j < 64; j += 4) {
    const scale = load<f32>(scales + j);
    if (abs(scale) > abs(max)) max = scale;
  }
  if (abs(max) < <f32>1e-15) {
    memory.fill(out, 0, 210);
    return;
  }
  const inverse: f32 = -128 / max;
  store<u16>(out, <u16>toHalf(<f32>1 / inverse), 208);
  const d = oneHalf(out + 208);
  const low = f32x4.splat(-32);
  const high = f32x4.splat(31);
  const middle = f32x4.splat(32);
  for (let j: usize = 0; j < 16; j++) {
    const at = x + (j << 6);
    const code = min(<i32>nearest(inverse * load<f32>(scales + (j << 2))), 127);
    store<u8>(out + j, <u8>code, 192);
    const step: f32 = d * <f32>code;
    let a = v128.load(at);
    let b = v128.load(at, 16);
    let c = v128.load(at, 32);
    let e = v128.load(at, 48);
    if (step != 0) {
      const s = f32x4.splat(step);
      a = f32x4.div(a, s);
      b = f32x4.div(b, s);
      c = f32x4.div(c, s);
      e = f32x4.div(e, s);
    } else {
      // the codes of the search stay; these are 0, not 32, where the weights are nearly zero
      const chosen = load<f32>(inverses + (j << 2));
      const i = f32x4.splat(chosen);
      const none = chosen == 0;
      a = none ? low : f32x4.mul(a, i);
      b = none ? low : f32x4.mul(b, i);
      c = none ? low : f32x4.mul(c, i);
      e = none ? low : f32x4.mul(e, i);
    }
    a = f32x4.add(levels(a, low, high), middle);
    b = f32x4.add(levels(b, low, high), middle);
    c = f32x4.add(levels(c, low, high), middle);
    e = f32x4.add(levels(e, low, high), middle);
    v128.store(codes + (j << 4), bytesOf(a, b, c, e));
  }
  const fours = i8x16.splat(15);
  for (let half: usize = 0; half < 2; half++) {
    for (let l: usize = 0; l < 32; l += 16) {
      const from = codes + (half << 7) + l;
      const q0 = v128.load(from);
      const q1 = v128.load(from, 32);
      const q2 = v128.load(from, 64);
      const q3 = v128.load(from, 96);
      const to = out + (half << 6) + l;
      v128.store(to, v128.or(v128.and(q0, fours), i16x8.shl(v128.and(q2, fours), 4)));
      v128.store(to, v128.or(v128.and(q1, fours), i16x8.shl(v128.and(q3, fours), 4)), 32);
      // codes are below 64: of the upper halves, two bits each, nothing but zeros is shifted across bytes
      const h0 = i16x8.shr_u(v128.andnot(q0, fours), 4);
      const h1 = i16x8.shr_u(v128.andnot(q1, fours), 2);
      const h2 = v128.andnot(q2, fours);
      const h3 = i16x8.shl(v128.andnot(q3, fours), 2);
      v128.store(out + (half << 5) + l, v128.or(v128.or(h0, h1), v128.or(h2, h3)), 128);
    }
  }
}
