/**
 * Stored weights to f32 tiles: the gemm of linear packs from these, and embedding rows are read with them. Exact conversions; affine
 * weights are (code - zero) * scale in f32, one rounding, as in `@lmq/formats`.
 * @module
 */
import { loadBrain, loadHalf, oneBrain, oneHalf } from './half';

/** fp16 [rows, cols] → f32. */
export function decodeHalf(src: usize, srcStride: usize, dst: usize, dstStride: usize, rows: i32, cols: i32): void {
  for (let r: usize = 0; r < <usize>rows; r++) {
    let from = src + r * srcStride;
    let to = dst + r * dstStride;
    let i = 0;
    for (; i + 4 <= cols; i += 4) {
      v128.store(to, loadHalf(from));
      from += 8;
      to += 16;
    }
    for (; i < cols; i++) {
      store<f32>(to, oneHalf(from));
      from += 2;
      to += 4;
    }
  }
}

/** bf16 [rows, cols] → f32. */
export function decodeBrain(src: usize, srcStride: usize, dst: usize, dstStride: usize, rows: i32, cols: i32): void {
  for (let r: usize = 0; r < <usize>rows; r++) {
    let from = src + r * srcStride;
    let to = dst + r * dstStride;
    let i = 0;
    for (; i + 4 <= cols; i += 4) {
      v128.store(to, loadBrain(from));
      from += 8;
      to += 16;
    }
    for (; i < cols; i++) {
      store<f32>(to, oneBrain(from));
      from += 2;
      to += 4;
    }
  }
}

/** Raw codes of one row → f32. `codes` points at the byte of the first column, which is even for 4 bits. */
function decodeCodes(codes: usize, bits: i32, to: usize, cols: i32): void {
  let i = 0;
  if (bits == 8) {
    for (; i + 4 <= cols; i += 4) {
      const h = i16x8.extend_low_i8x16_u(v128.load32_zero(codes));
      v128.store(to, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(h)));
      codes += 4;
      to += 16;
    }
    for (; i < cols; i++) {
      store<f32>(to, <f32>(<i32>load<u8>(codes)));
      codes++;
      to += 4;
    }
    return;
  }
  const low = i8x16.splat(15);
  for (; i + 16 <= cols; i += 16) {
    const v = v128.load64_zero(codes);
    // low and high nibbles side by side: 16 codes in order
    const q = v128.shuffle<u8>(v128.and(v, low), v128.and(i16x8.shr_u(v, 4), low), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const a = i16x8.extend_low_i8x16_u(q);
    const b = i16x8.extend_high_i8x16_u(q);
    v128.store(to, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(a)));
    v128.store(to, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(a)), 16);
    v128.store(to, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(b)), 32);
    v128.store(to, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(b)), 48);
    codes += 8;
    to += 64;
  }
  for (; i < cols; i++) {
    const byte = <i32>load<u8>(codes + ((<usize>i & 15) >> 1));
    store<f32>(to, <f32>(i & 1 ? byte >> 4 : byte & 15));
    to += 4;
  }
}

/** values ← (values - zero) * scale + min. */
function rescaleFrom(at: usize, n: i32, zero: f32, scale: f32, min: f32): void {
  const vz = f32x4.splat(zero);
  const vs = f32x4.splat(scale);
  const vm = f32x4.splat(min);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(at, f32x4.add(f32x4.mul(f32x4.sub(v128.load(at), vz), vs), vm));
    at += 16;
  }
  for (; i < n; i++) {
    store<f32>(at, (load<f32>(at) - zero) * scale + min);
    at += 4;
  }
}

/** values ← (values - zero) * scale. Not the same as a min of 0, which turns -0 into 0. */
function rescale(at: usize, n: i32, zero: f32, scale: f32): void {
  const vz = f32x4.splat(zero);
  const vs = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(at, f32x4.mul(f32x4.sub(v128.load(at), vz), vs));
    at += 16;
  }
  for (; i < n; i++) {
    store<f32>(at, (load<f32>(at) - zero) * scale);
    at += 4;
  }
}

/**
 * Affine codes of columns [k0, k0 + cols) → f32.
 * @param codes first row's codes, column 0
 * @param bits 4 or 8; k0 is even
 * @param scales first row's scales, one f32 per group
 * @param zeros first row's zero points in the same form, or 0: every zero point is `zero`
 * @param mins first row's minimums in the same form, added to the group's weights, or 0: none, as with groupIndex
 * @param groupIndex i32 per column of the whole row, or 0: column c is in group c / groupSize
 */
export function decodeAffine(
  codes: usize,
  codesStride: usize,
  bits: i32,
  scales: usize,
  zeros: usize,
  mins: usize,
  scalesStride: usize,
  zero: f32,
  groupSize: i32,
  groupIndex: usize,
  dst: usize,
  dstStride: usize,
  rows: i32,
  k0: i32,
  cols: i32,
): void {
  const skip = <usize>(bits == 8 ? k0 : k0 >> 1);
  for (let r: usize = 0; r < <usize>rows; r++) {
    const to = dst + r * dstStride;
    const s = scales + r * scalesStride;
    const z = zeros ? zeros + r * scalesStride : 0;
    decodeCodes(codes + r * codesStride + skip, bits, to, cols);
    if (groupIndex) {
      let at = to;
      for (let c = k0; c < k0 + cols; c++) {
        const g = (<usize>load<i32>(groupIndex + ((<usize>c) << 2))) << 2;
        store<f32>(at, (load<f32>(at) - (z ? load<f32>(z + g) : zero)) * load<f32>(s + g));
        at += 4;
      }
    } else {
      for (let c = k0; c < k0 + cols; ) {
        const g = c / groupSize;
        const n = min((g + 1) * groupSize, k0 + cols) - c;
        const o = (<usize>g) << 2;
        const at = to + ((<usize>(c - k0)) << 2);
        const first = z ? load<f32>(z + o) : zero;
        if (mins) rescaleFrom(at, n, first, load<f32>(s + o), load<f32>(mins + r * scalesStride + o));
        else rescale(at, n, first, load<f32>(s + o));
        c += n;
      }
    }
  }
}
