/**
 * Inputs of a linear as integers (`activations: 'int16' | 'int8'`): symmetric codes of `block` columns with one f32 scale, in 16 bits
 * either way, as the products are made of those (i32x4.dot_i16x8_s). Every step is one float32 operation, as in `@lmq/kernels-js`
 * (round-input.ts), so the codes are the same.
 * @module
 */

/**
 * Rounds one row of k values.
 * @param codes i16, as many as whole vectors of 32 columns hold; columns past k become 0
 * @param scales one f32 per 32 columns
 * @param block a multiple of 32, or at least k: columns that share a scale
 * @param largest 32767 or 127
 */
export function quantizeInput(x: usize, k: i32, codes: usize, scales: usize, block: i32, largest: f32): void {
  for (let from = 0; from < k; from += block) {
    const n = min(block, k - from);
    const at = x + ((<usize>from) << 2);
    const scale = <f32>(absmax(at, n) / largest);
    const to = codes + ((<usize>from) << 1);
    for (let s = from >> 5; s < (from + n + 31) >> 5; s++) store<f32>(scales + ((<usize>s) << 2), scale);
    if (scale == 0) memory.fill(to, 0, (<usize>n) << 1); // all zero, or too small for a float32 scale
    else round(at, n, to, scale, largest);
  }
  const rest = (32 - (k & 31)) & 31;
  memory.fill(codes + ((<usize>k) << 1), 0, (<usize>rest) << 1);
}

/** NaN when one is among them. */
function absmax(x: usize, n: i32): f32 {
  let v = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v = f32x4.max(v, f32x4.abs(v128.load(x)));
    x += 16;
  }
  let m = max(max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)), max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)));
  for (; i < n; i++) {
    m = max(m, abs(load<f32>(x)));
    x += 4;
  }
  return m;
}

function round(x: usize, n: i32, codes: usize, scale: f32, largest: f32): void {
  const s = f32x4.splat(scale);
  const high = f32x4.splat(largest);
  const low = f32x4.splat(-largest);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const a = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(v128.load(x), s))));
    const b = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(v128.load(x, 16), s))));
    v128.store(codes, i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(a), i32x4.trunc_sat_f32x4_s(b)));
    x += 32;
    codes += 16;
  }
  for (; i < n; i++) {
    const q = f32x4.max(low, f32x4.min(high, f32x4.nearest(f32x4.div(v128.load_splat<f32>(x), s))));
    store<i16>(codes, <i16>i32x4.extract_lane(i32x4.trunc_sat_f32x4_s(q), 0));
    x += 4;
    codes += 2;
  }
}

/** The rounded values as f32, for weights without integer kernels. */
export function dequantizeInput(codes: usize, scales: usize, k: i32, x: usize): void {
  for (let i: usize = 0; i < <usize>k; i++) {
    store<f32>(x + (i << 2), <f32>load<i16>(codes + (i << 1)) * load<f32>(scales + ((i >> 5) << 2)));
  }
}

/** Per group of columns: Σ code * scale, in f32; exact within 32 columns. For the zero points. groupSize a multiple of 32, or at least k. */
export function inputSums(codes: usize, scales: usize, k: i32, groupSize: i32, sums: usize): void {
  for (let from = 0; from < k; from += groupSize) {
    const end = min(k, from + groupSize);
    let s: f32 = 0;
    for (let c = from; c < end; c += 32) {
      const at = codes + ((<usize>c) << 1);
      const one = i16x8.splat(1);
      let t = i32x4.add(i32x4.dot_i16x8_s(v128.load(at), one), i32x4.dot_i16x8_s(v128.load(at, 16), one));
      t = i32x4.add(t, i32x4.add(i32x4.dot_i16x8_s(v128.load(at, 32), one), i32x4.dot_i16x8_s(v128.load(at, 48), one)));
      const n = i32x4.extract_lane(t, 0) + i32x4.extract_lane(t, 1) + i32x4.extract_lane(t, 2) + i32x4.extract_lane(t, 3);
      s += <f32>n * load<f32>(scales + ((<usize>c >> 5) << 2));
    }
    store<f32>(sums, s);
    sums += 4;
  }
}

/**
 * Puts codes into the order of 4-bit weights, in place: of 32 columns, vector j becomes columns j, 4 + j, 8 + j …, to line up with nibble
 * j of each 16-bit lane of packed codes. Sums over whole blocks do not mind.
 */
export function nibbleOrder(codes: usize, k: i32): void {
  for (let c = 0; c < k; c += 32) {
    const a = v128.load(codes);
    const b = v128.load(codes, 16);
    const d = v128.load(codes, 32);
    const e = v128.load(codes, 48);
    const ab0 = v128.shuffle<i16>(a, b, 0, 4, 8, 12, 1, 5, 9, 13);
    const ab1 = v128.shuffle<i16>(a, b, 2, 6, 10, 14, 3, 7, 11, 15);
    const de0 = v128.shuffle<i16>(d, e, 0, 4, 8, 12, 1, 5, 9, 13);
    const de1 = v128.shuffle<i16>(d, e, 2, 6, 10, 14, 3, 7, 11, 15);
    v128.store(codes, v128.shuffle<i64>(ab0, de0, 0, 2));
    v128.store(codes, v128.shuffle<i64>(ab0, de0, 1, 3), 16);
    v128.store(codes, v128.shuffle<i64>(ab1, de1, 0, 2), 32);
    v128.store(codes, v128.shuffle<i64>(ab1, de1, 1, 3), 48);
    codes += 64;
  }
}
