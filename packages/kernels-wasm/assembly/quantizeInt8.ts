/**
 * Inputs of a linear on the 8-bit grids of `Linear.input`: one scale and zero point per row, or for all rows. Codes less their zero point, in
 * 16 bits, and a scale per 32 columns, as quantizeInput.ts leaves them: the same products follow. Every step is one float32 operation, as in
 * `@lmq/kernels-js` (quantized-input.ts), so the codes are the same.
 * @module
 */

/**
 * Least and greatest value of each row and 0, of values whose magnitude is less than `below`. NaN where there is one.
 * @param below infinity: all values
 * @param ranges two f32 per row
 */
export function inputRanges(x: usize, stride: usize, rows: i32, k: i32, below: f32, ranges: usize): void {
  for (let r = 0; r < rows; r++) {
    const limit = f32x4.splat(below);
    const all = below == <f32>Infinity;
    let low = f32x4.splat(0);
    let high = low;
    let p = x;
    let i = 0;
    for (; i + 4 <= k; i += 4) {
      let v = v128.load(p);
      if (!all) v = v128.andnot(v, f32x4.ge(f32x4.abs(v), limit));
      low = f32x4.min(low, v);
      high = f32x4.max(high, v);
      p += 16;
    }
    let least = min(min(f32x4.extract_lane(low, 0), f32x4.extract_lane(low, 1)), min(f32x4.extract_lane(low, 2), f32x4.extract_lane(low, 3)));
    let most = max(max(f32x4.extract_lane(high, 0), f32x4.extract_lane(high, 1)), max(f32x4.extract_lane(high, 2), f32x4.extract_lane(high, 3)));
    for (; i < k; i++) {
      const v = load<f32>(p);
      if (all || !(abs(v) >= below)) {
        least = min(least, v);
        most = max(most, v);
      }
      p += 4;
    }
    store<f32>(ranges, least);
    store<f32>(ranges, most, 4);
    ranges += 8;
    x += stride;
  }
}

/**
 * Codes of rows. A row with NaN, or whose scale is no finite number, gets the scale NaN.
 * @param codes i16, as many as whole vectors of 32 columns hold; columns past k become 0
 * @param scales one f32 per 32 columns
 * @param grids four f32 per row, `gridsStride` apart: scale, least and largest code less the zero point, and one that is not read
 */
export function quantizeInt8(
  x: usize,
  stride: usize,
  rows: i32,
  k: i32,
  codes: usize,
  codesStride: usize,
  scales: usize,
  scalesStride: usize,
  grids: usize,
  gridsStride: usize,
): void {
  for (let r = 0; r < rows; r++) {
    const scale = load<f32>(grids);
    const bad = !(scale < <f32>Infinity) || quantizeRow(x, k, codes, scale, load<f32>(grids, 4), load<f32>(grids, 8));
    const by = bad ? <f32>NaN : scale;
    for (let s: usize = 0; s < (<usize>(k + 31)) >> 5; s++) store<f32>(scales + (s << 2), by);
    const rest = (32 - (k & 31)) & 31;
    memory.fill(codes + ((<usize>k) << 1), 0, (<usize>rest) << 1);
    if (scale == 0 || bad) memory.fill(codes, 0, (<usize>k) << 1);
    x += stride;
    codes += codesStride;
    scales += scalesStride;
    grids += gridsStride;
  }
}

/** Whether a value is NaN. With a scale of 0 the codes are not to be used. */
function quantizeRow(x: usize, k: i32, codes: usize, scale: f32, least: f32, largest: f32): bool {
  const s = f32x4.splat(scale);
  const low = f32x4.splat(least);
  const high = f32x4.splat(largest);
  let nan = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= k; i += 8) {
    const u = v128.load(x);
    const v = v128.load(x, 16);
    nan = v128.or(nan, v128.or(f32x4.ne(u, u), f32x4.ne(v, v)));
    const a = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(u, s))));
    const b = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(v, s))));
    v128.store(codes, i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(a), i32x4.trunc_sat_f32x4_s(b)));
    x += 32;
    codes += 16;
  }
  for (; i < k; i++) {
    const v = v128.load_splat<f32>(x);
    nan = v128.or(nan, f32x4.ne(v, v));
    const q = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(v, s))));
    store<i16>(codes, <i16>i32x4.extract_lane(i32x4.trunc_sat_f32x4_s(q), 0));
    x += 4;
    codes += 2;
  }
  return v128.any_true(nan);
}

/** flags[c] = 1 where any |x| of column c is at least `threshold`, else 0. */
export function outlierColumns(x: usize, stride: usize, rows: i32, k: i32, threshold: f32, flags: usize): void {
  memory.fill(flags, 0, <usize>k);
  const limit = f32x4.splat(threshold);
  for (let r = 0; r < rows; r++) {
    let p = x;
    let i = 0;
    for (; i + 4 <= k; i += 4) {
      const over = f32x4.ge(f32x4.abs(v128.load(p)), limit);
      if (v128.any_true(over)) {
        for (let l = 0; l < 4; l++) if (abs(load<f32>(p + ((<usize>l) << 2))) >= threshold) store<u8>(flags + <usize>(i + l), 1);
      }
      p += 16;
    }
    for (; i < k; i++) {
      if (abs(load<f32>(p)) >= threshold) store<u8>(flags + <usize>i, 1);
      p += 4;
    }
    x += stride;
  }
}

/**
 * Some columns of rows of affine codes as f32, [rows, count]: (code - zero) * scale.
 * @param bits 4 or 8
 * @param zeros f32 like scales, or 0: every zero point is `zero`
 * @param columns i32
 */
export function decodeColumns(
  codes: usize,
  stride: usize,
  bits: i32,
  scales: usize,
  zeros: usize,
  scalesStride: usize,
  zero: f32,
  groupSize: i32,
  columns: usize,
  count: i32,
  rows: i32,
  to: usize,
): void {
  for (let r = 0; r < rows; r++) {
    for (let i: usize = 0; i < <usize>count; i++) {
      const c = load<i32>(columns + (i << 2));
      const byte = <i32>load<u8>(codes + <usize>(bits == 8 ? c : c >> 1));
      const code = bits == 8 ? byte : c & 1 ? byte >> 4 : byte & 15;
      const g = (<usize>(c / groupSize)) << 2;
      store<f32>(to, (<f32>code - (zeros ? load<f32>(zeros + g) : zero)) * load<f32>(scales + g));
      to += 4;
    }
    codes += stride;
    scales += scalesStride;
    if (zeros) zeros += scalesStride;
  }
}
