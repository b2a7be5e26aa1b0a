/**
 * Panels for gemmBytes.ts. A panel of the weight holds 8 rows as signed bytes, four columns of a row together: 32 bytes per four columns. A panel of
 * inputs holds as many rows as its tile, in 16 bits with columns 0 and 2 of four together, then 1 and 3, or as bytes like the weight.
 * @module
 */
import { BYTE_ROWS } from './tileBytes';

/**
 * Panels of a weight whose codes have their zero point at 128. Rows and columns past the end become zeros, which are no code but the weight 0.
 * @param codes rows of bytes
 * @param k columns that there are
 * @param width columns of a panel, a multiple of 4
 */
export function packBytes(codes: usize, stride: usize, rows: i32, k: i32, width: i32, dst: usize): void {
  for (let r = 0; r < rows; r += 8) {
    for (let c = 0; c < width; c += 4) {
      for (let l = 0; l < 8; l++) {
        const from = codes + <usize>(r + l) * stride + <usize>c;
        if (r + l >= rows) store<i32>(dst, 0);
        else if (c + 4 <= k) store<i32>(dst, load<i32>(from) ^ 0x80808080);
        else for (let i: usize = 0; i < 4; i++) store<i8>(dst + i, c + <i32>i < k ? <i8>(load<u8>(from + i) ^ 0x80) : 0);
        dst += 4;
      }
    }
  }
}

/** Sums of a panel's rows over k columns from `b` on: 8 i32. */
export function panelSums(b: usize, k: i32, sums: usize): void {
  const one = i16x8.splat(1);
  let lo = i32x4.splat(0);
  let hi = lo;
  for (const end = b + ((<usize>k) << 3); b < end; b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    lo = i32x4.add(lo, i32x4.dot_i16x8_s(one, i16x8.extadd_pairwise_i8x16_s(b0)));
    hi = i32x4.add(hi, i32x4.dot_i16x8_s(one, i16x8.extadd_pairwise_i8x16_s(b1)));
  }
  v128.store(sums, lo);
  v128.store(sums, hi, 16);
}

/**
 * Weights of rows [first, first + rows) as f32, [rows, count]: `count` of their columns, those of a list of i32, or the first.
 * @param scales f32 per row of the weight
 */
export function decodeBytes(b: usize, width: i32, scales: usize, first: i32, rows: i32, columns: usize, count: i32, to: usize): void {
  for (let r = first; r < first + rows; r++) {
    const row = b + <usize>(r >> 3) * ((<usize>width) << 3) + ((<usize>r & 7) << 2);
    const scale = load<f32>(scales + ((<usize>r) << 2));
    for (let i: usize = 0; i < <usize>count; i++) {
      const c = columns ? <usize>load<i32>(columns + (i << 2)) : i;
      store<f32>(to, <f32>load<i8>(row + ((c & ~3) << 3) + (c & 3)) * scale);
      to += 4;
    }
  }
}

// @ts-ignore: decorator
@inline
function spread(v: v128, to: usize, step: usize): void {
  v128.store32_lane(to, v, 0);
  v128.store32_lane(to + step, v, 1);
  v128.store32_lane(to + (step << 1), v, 2);
  v128.store32_lane(to + step * 3, v, 3);
}

/**
 * Panels of inputs.
 * @param codes i16, less the zero point, `width` of them, a multiple of 8, a row
 */
export function packWideInput(codes: usize, stride: usize, rows: i32, width: i32, dst: usize): void {
  const end = (<usize>width) << 1;
  for (let i = 0; i < rows; ) {
    const height = min(BYTE_ROWS, rows - i);
    const step = (<usize>height) << 2;
    for (let r = 0; r < height; r++) {
      let to = dst + ((<usize>r) << 2);
      for (let c: usize = 0; c < end; c += 16) {
        const v = v128.load(codes + c);
        spread(v128.shuffle<i16>(v, v, 0, 2, 1, 3, 4, 6, 5, 7), to, step);
        to += step << 2;
      }
      codes += stride;
    }
    dst += end * <usize>height;
    i += height;
  }
}

/**
 * Panels of inputs as bytes: signed codes within ±127 as they are; others less the least code of their grid, 0 … 255.
 * @param codes as above
 * @param grids f32 per row, `gridsStride` apart: the least code; not read with `signed`
 * @param shifts becomes what a byte is less than its code, i32 per row
 */
export function packBytesInput(
  codes: usize,
  stride: usize,
  rows: i32,
  width: i32,
  grids: usize,
  gridsStride: usize,
  signed: i32,
  dst: usize,
  shifts: usize,
): void {
  const end = (<usize>width) << 1;
  for (let i = 0; i < rows; ) {
    const height = min(BYTE_ROWS, rows - i);
    const step = (<usize>height) << 2;
    for (let r = 0; r < height; r++) {
      const least = signed ? 0 : i32x4.extract_lane(i32x4.trunc_sat_f32x4_s(v128.load_splat<f32>(grids)), 0);
      store<i32>(shifts, least);
      const by = i16x8.splat(<i16>least);
      let to = dst + ((<usize>r) << 2);
      for (let c: usize = 0; c < end; c += 32) {
        const low = i16x8.sub(v128.load(codes + c), by);
        const high = i16x8.sub(v128.load(codes + c, 16), by);
        spread(signed ? i8x16.narrow_i16x8_s(low, high) : i8x16.narrow_i16x8_u(low, high), to, step);
        to += step << 2;
      }
      codes += stride;
      grids += gridsStride;
      shifts += 4;
    }
    dst += (<usize>width) * <usize>height;
    i += height;
  }
}
