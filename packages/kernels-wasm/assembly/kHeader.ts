/**
 * The first 16 bytes of a Q4_K or Q5_K block, and its codes: formats' `_k-header.ts`, without importances.
 * @module
 */
import { bytesOf } from './blockCodes';
import { oneHalf } from './half';
import { searchScaleAndMin } from './searchScaleAndMin';
import { levels, sideBySide } from './subBlocks';
import { toHalf } from './toHalf';

const lanes = memory.data(512, 16);
const scales = memory.data(32, 16);
const mins = memory.data(32, 16);
const inverses = memory.data(32, 16);
const bases = memory.data(32, 16);

/** Writes the header of the block of 256 weights at x to `out`, and 256 codes 0 … most to `codes`. For first and last see searchScaleAndMin.ts. */
export function kHeader(x: usize, most: f32, first: f32, last: i32, codes: usize, out: usize): void {
  for (let g: usize = 0; g < 2; g++) {
    const at = g << 4;
    sideBySide(x + (g << 9), 32, lanes);
    searchScaleAndMin(lanes, most, first, last, scales + at, mins + at, inverses + at, bases + at);
  }
  const scale = largest(scales);
  const min = largest(mins);
  store<u16>(out, <u16>toHalf(scale / 63));
  store<u16>(out, <u16>toHalf(min / 63), 2);
  const s = sixBits(scales, scale);
  const m = sixBits(mins, min);
  const s4 = <u32>(s >>> 32);
  const m4 = <u32>(m >>> 32);
  store<u32>(out, <u32>s | ((s4 & 0x30303030) << 2), 4);
  store<u32>(out, <u32>m | ((m4 & 0x30303030) << 2), 8);
  store<u32>(out, (s4 & 0x0f0f0f0f) | ((m4 & 0x0f0f0f0f) << 4), 12);

  const d = oneHalf(out);
  const dMin = oneHalf(out + 2);
  const low = f32x4.splat(0);
  const high = f32x4.splat(most);
  for (let j: usize = 0; j < 8; j++) {
    const step: f32 = d * <f32>(<i32>(<u8>(s >>> (j << 3))));
    const vs = f32x4.splat(step);
    const vm = f32x4.splat(dMin * <f32>(<i32>(<u8>(m >>> (j << 3)))));
    for (let l: usize = 0; l < 2; l++) {
      const at = x + (j << 7) + (l << 6);
      let c0 = v128.load(at);
      let c1 = v128.load(at, 16);
      let c2 = v128.load(at, 32);
      let c3 = v128.load(at, 48);
      if (step != 0) {
        c0 = f32x4.div(f32x4.add(c0, vm), vs);
        c1 = f32x4.div(f32x4.add(c1, vm), vs);
        c2 = f32x4.div(f32x4.add(c2, vm), vs);
        c3 = f32x4.div(f32x4.add(c3, vm), vs);
      } else {
        const inverse = v128.load_splat<f32>(inverses + (j << 2)); // the codes of the search stay
        const base = v128.load_splat<f32>(bases + (j << 2));
        c0 = f32x4.mul(f32x4.sub(c0, base), inverse);
        c1 = f32x4.mul(f32x4.sub(c1, base), inverse);
        c2 = f32x4.mul(f32x4.sub(c2, base), inverse);
        c3 = f32x4.mul(f32x4.sub(c3, base), inverse);
      }
      const bytes = bytesOf(levels(c0, low, high), levels(c1, low, high), levels(c2, low, high), levels(c3, low, high));
      v128.store(codes + (j << 5) + (l << 4), bytes);
    }
  }
}

/** Of 8 floats, or 0; NaN when one is. */
function largest(at: usize): f32 {
  let v = f32x4.max(f32x4.splat(0), f32x4.max(v128.load(at), v128.load(at, 16)));
  v = f32x4.max(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.max(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2)), 0);
}

/** 8 floats as bytes, the largest as 63. What is below 0 is kept modulo 256. */
function sixBits(at: usize, most: f32): u64 {
  const per = f32x4.splat(most > 0 ? <f32>63 / most : 0);
  const top = f32x4.splat(63);
  const a = i32x4.trunc_sat_f32x4_s(f32x4.pmin(f32x4.nearest(f32x4.mul(per, v128.load(at))), top));
  const b = i32x4.trunc_sat_f32x4_s(f32x4.pmin(f32x4.nearest(f32x4.mul(per, v128.load(at, 16))), top));
  const low = v128.shuffle<u8>(a, b, 0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
  return i64x2.extract_lane(low, 0);
}
