/**
 * Quantizes to an affine grid and decodes, group by group. Single f32 operations, no accumulators: the same bytes as kernels-js.
 * @module
 */
import { gridCode, gridCodes } from './grid';

/** @param codes u8 [rows, cols], or 0 */
export function fakeQuant(
  out: usize,
  outStride: usize,
  codes: usize,
  codesStride: usize,
  w: usize,
  wStride: usize,
  scales: usize,
  scalesStride: usize,
  zeros: usize,
  zerosStride: usize,
  rows: i32,
  cols: i32,
  groupSize: i32,
  maxCode: f32,
): void {
  for (let r: usize = 0; r < <usize>rows; r++) {
    let s = scales + r * scalesStride;
    let z = zeros + r * zerosStride;
    for (let c = 0; c < cols; ) {
      const n = min(groupSize, cols - c);
      const at = (<usize>c) << 2;
      group(
        out + r * outStride + at,
        codes ? codes + r * codesStride + c : 0,
        w + r * wStride + at,
        n,
        load<f32>(s),
        load<f32>(z),
        maxCode,
      );
      s += 4;
      z += 4;
      c += n;
    }
  }
}

function group(out: usize, codes: usize, w: usize, n: i32, scale: f32, zero: f32, maxCode: f32): void {
  const vs = f32x4.splat(scale);
  const vz = f32x4.splat(zero);
  const vm = f32x4.splat(maxCode);
  const used = f32x4.ne(vs, f32x4.splat(0));
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const code = gridCodes(v128.load(w), vs, vz, vm, used);
    v128.store(out, f32x4.mul(f32x4.sub(code, vz), vs));
    if (codes) {
      const q = i32x4.trunc_sat_f32x4_s(code);
      const h = i16x8.narrow_i32x4_u(q, q);
      v128.store_lane<u32>(codes, i8x16.narrow_i16x8_u(h, h), 0);
      codes += 4;
    }
    w += 16;
    out += 16;
  }
  for (; i < n; i++) {
    const code = gridCode(load<f32>(w), scale, zero, maxCode);
    store<f32>(out, (code - zero) * scale);
    if (codes) {
      store<u8>(codes, <u8>(<i32>code));
      codes++;
    }
    w += 4;
    out += 4;
  }
}
