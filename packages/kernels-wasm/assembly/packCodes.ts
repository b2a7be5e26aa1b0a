/**
 * Panels for gemmCodes.ts. A pair is the codes of two columns, 2 x i16 in 32 bits; a panel holds CODE_ROWS (of inputs) or 8 rows (of weights), pair after pair. With 4-bit
 * weights the columns of a block of 32 are in nibble order (quantizeInput.ts) on both sides. Zero points are subtracted here: they are whole numbers, so that is exact.
 * @module
 */
import { CODE_ROWS } from './gemmCodes';

/** Transposes 4 rows of 4 pairs: `step` bytes from pair to pair of the panel. */
// @ts-ignore: decorator
@inline
function transpose(a: v128, b: v128, c: v128, d: v128, to: usize, step: usize): void {
  const ab0 = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const ab1 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cd0 = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const cd1 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab0, cd0, 0, 2));
  v128.store(to + step, v128.shuffle<i64>(ab0, cd0, 1, 3));
  v128.store(to + (step << 1), v128.shuffle<i64>(ab1, cd1, 0, 2));
  v128.store(to + step * 3, v128.shuffle<i64>(ab1, cd1, 1, 3));
}

/**
 * Panels of CODE_ROWS rows from rounded inputs. k is a multiple of 32; missing rows become zeros. Scales: CODE_ROWS per 32 columns, `copies` times.
 * @param copies 1, or 2 for a product in chunks of 16 columns
 */
export function packInput(
  codes: usize,
  stride: usize,
  scales: usize,
  scalesStride: usize,
  rows: i32,
  k: i32,
  dst: usize,
  dstScales: usize,
  copies: i32,
): void {
  const blocks = k >> 5;
  const step = (<usize>CODE_ROWS) << 2; // bytes from pair to pair
  for (let r = 0; r < rows; r += CODE_ROWS) {
    for (let l = 0; l < CODE_ROWS; l++) {
      const here = r + l < rows;
      const from = codes + <usize>(r + l) * stride;
      let to = dst + ((<usize>l) << 2);
      for (let i: usize = 0; i < (<usize>k) << 1; i += 4) {
        store<i32>(to, here ? load<i32>(from + i) : 0);
        to += step;
      }
      to = dstScales + ((<usize>l) << 2);
      for (let g: usize = 0; g < <usize>blocks; g++) {
        const scale: f32 = here ? load<f32>(scales + <usize>(r + l) * scalesStride + (g << 2)) : 0;
        for (let i = 0; i < copies; i++) {
          store<f32>(to, scale);
          to += step;
        }
      }
    }
    dst += (<usize>(k >> 1)) * step;
    dstScales += (<usize>(blocks * copies)) * step;
  }
}

/** Vector j of the 32 codes at p, as i16 less the zero point: columns 8 j … 8 j + 7; of 4-bit codes, nibble j of each lane. */
// @ts-ignore: decorator
@inline
function eight(p: usize, j: i32, zero: v128, bits: i32): v128 {
  if (bits == 8) return i16x8.sub(v128.load8x8_u(p + (<usize>j << 3)), zero);
  return i16x8.sub(v128.and(i16x8.shr_u(v128.load(p), j << 2), i16x8.splat(15)), zero);
}

// @ts-ignore: decorator
@inline
function zeroAt(zeros: usize, zero: f32): v128 {
  return i16x8.splat(<i16>(zeros ? load<f32>(zeros) : zero));
}

// @ts-ignore: decorator
@inline
function packWeights(
  codes: usize,
  stride: usize,
  scales: usize,
  zeros: usize,
  scalesStride: usize,
  zero: f32,
  groupSize: i32,
  rows: i32,
  k0: i32,
  k: i32,
  chunk: i32,
  dst: usize,
  dstScales: usize,
  bits: i32,
): void {
  const size: usize = bits == 4 ? 16 : 32;
  const first = codes + (<usize>k0 >> 5) * size;
  for (let r = 0; r < rows; r += 8) {
    const last = <usize>(rows - r - 1); // rows past the end read the last one; its scale there is 0
    for (let h: usize = 0; h < 8; h += 4) {
      const o0 = <usize>r + min(h, last);
      const o1 = <usize>r + min(h + 1, last);
      const o2 = <usize>r + min(h + 2, last);
      const o3 = <usize>r + min(h + 3, last);
      let p0 = first + o0 * stride;
      let p1 = first + o1 * stride;
      let p2 = first + o2 * stride;
      let p3 = first + o3 * stride;
      let to = dst + (h << 2);
      let z0 = i16x8.splat(0);
      let z1 = z0;
      let z2 = z0;
      let z3 = z0;
      let next = (k0 / groupSize) * groupSize; // where the next group starts
      let g = (<usize>(k0 / groupSize)) << 2;
      for (let c = k0; c < k0 + k; c += 32) {
        if (c >= next) {
          z0 = zeroAt(zeros ? zeros + o0 * scalesStride + g : 0, zero);
          z1 = zeroAt(zeros ? zeros + o1 * scalesStride + g : 0, zero);
          z2 = zeroAt(zeros ? zeros + o2 * scalesStride + g : 0, zero);
          z3 = zeroAt(zeros ? zeros + o3 * scalesStride + g : 0, zero);
          next += groupSize;
          g += 4;
        }
        transpose(eight(p0, 0, z0, bits), eight(p1, 0, z1, bits), eight(p2, 0, z2, bits), eight(p3, 0, z3, bits), to, 32);
        transpose(eight(p0, 1, z0, bits), eight(p1, 1, z1, bits), eight(p2, 1, z2, bits), eight(p3, 1, z3, bits), to + 128, 32);
        transpose(eight(p0, 2, z0, bits), eight(p1, 2, z1, bits), eight(p2, 2, z2, bits), eight(p3, 2, z3, bits), to + 256, 32);
        transpose(eight(p0, 3, z0, bits), eight(p1, 3, z1, bits), eight(p2, 3, z2, bits), eight(p3, 3, z3, bits), to + 384, 32);
        to += 512;
        p0 += size;
        p1 += size;
        p2 += size;
        p3 += size;
      }
    }
    for (let c = k0; c < k0 + k; c += chunk) {
      const g = (<usize>(c / groupSize)) << 2;
      for (let l: usize = 0; l < 8; l++) {
        store<f32>(dstScales + (l << 2), l <= last ? load<f32>(scales + (<usize>r + l) * scalesStride + g) : 0);
      }
      dstScales += 32;
    }
    dst += (<usize>k) << 4;
  }
}

/**
 * Panels of 8 rows of a weight, columns [k0, k0 + k), multiples of 32: columns past the row's end hold anything, and meet zeros.
 * @param codes first row's codes, column 0; 32 bytes behind the last row must be readable
 * @param zeros first row's zero points, or 0: every zero point is `zero`
 * @param chunk divides groupSize, or that is at least the whole row; k0 is a multiple of it
 * @param dstScales 8 f32 per chunk and panel
 */
export function packCodes4(
  codes: usize,
  stride: usize,
  scales: usize,
  zeros: usize,
  scalesStride: usize,
  zero: f32,
  groupSize: i32,
  rows: i32,
  k0: i32,
  k: i32,
  chunk: i32,
  dst: usize,
  dstScales: usize,
): void {
  packWeights(codes, stride, scales, zeros, scalesStride, zero, groupSize, rows, k0, k, chunk, dst, dstScales, 4);
}
export function packCodes8(
  codes: usize,
  stride: usize,
  scales: usize,
  zeros: usize,
  scalesStride: usize,
  zero: f32,
  groupSize: i32,
  rows: i32,
  k0: i32,
  k: i32,
  chunk: i32,
  dst: usize,
  dstScales: usize,
): void {
  packWeights(codes, stride, scales, zeros, scalesStride, zero, groupSize, rows, k0, k, chunk, dst, dstScales, 8);
}
