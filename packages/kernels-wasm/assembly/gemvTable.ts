/**
 * 4-bit codes of tables: products with one activation row, and decoding.
 *
 * The product looks bytes up, two codes at a time, in a table of all 256 pairs (2 KiB): loads, where looking bytes up in vectors (lookUp.ts)
 * costs 12 shuffles for 16 weights. On one core with one unit for shuffles it took 0.57 of the time.
 * @module
 */
import { madd } from './fma';
import { total } from './gemv';
import { own, workBytes } from './work';
import { first, lower, pick, plane0, plane1, plane2, plane3, second, upper } from './lookUp';


/**
 * One activation row times 4-bit codes of tables: y[r] = Σ_g s_g Σ x T[q] (+ bias). f32 accumulators, 4 lanes.
 * @param codes rows of packed codes
 * @param tables 16 f32; `tableStride` from row to row, 0: one table for all
 * @param scales f32 per group, or 0: all are 1
 * @param groupSize a multiple of 16, or at least k
 * @param work space for `own` (work.ts) of so many bytes as `workBytes` says
 */
export function gemvTable(
  y: usize,
  x: usize,
  codes: usize,
  stride: usize,
  tables: usize,
  tableStride: usize,
  scales: usize,
  scalesStride: usize,
  rows: i32,
  k: i32,
  groupSize: i32,
  bias: usize,
  work: usize,
): void {
  const pairs = own(work, workBytes());
  for (let r = 0; r < rows; r++) {
    if (r == 0 || tableStride) spreadPairs(tables, pairs);
    let q = codes;
    let px = x;
    let s = scales;
    let t = f32x4.splat(0);
    let rest: f32 = 0;
    for (let c = 0; c < k; c += groupSize) {
      const width = min(groupSize, k - c);
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let n = width >> 4;
      for (; n > 0; n--) {
        a0 = madd(four(pairs, <usize>load<u8>(q), <usize>load<u8>(q, 1)), v128.load(px), a0);
        a1 = madd(four(pairs, <usize>load<u8>(q, 2), <usize>load<u8>(q, 3)), v128.load(px, 16), a1);
        a0 = madd(four(pairs, <usize>load<u8>(q, 4), <usize>load<u8>(q, 5)), v128.load(px, 32), a0);
        a1 = madd(four(pairs, <usize>load<u8>(q, 6), <usize>load<u8>(q, 7)), v128.load(px, 48), a1);
        px += 64;
        q += 8;
      }
      let sum: f32 = 0;
      for (let i = 0; i < (width & 15); i++) {
        const byte = <usize>load<u8>(q + ((<usize>i) >> 1));
        sum += load<f32>(tables + ((i & 1 ? byte >> 4 : byte & 15) << 2)) * load<f32>(px);
        px += 4;
      }
      const a = f32x4.add(a0, a1);
      if (scales) {
        t = madd(a, v128.load_splat<f32>(s), t);
        rest += sum * load<f32>(s);
        s += 4;
      } else {
        t = f32x4.add(t, a);
        rest += sum;
      }
    }
    rest += total(t);
    store<f32>(y, bias ? rest + load<f32>(bias) : rest);
    y += 4;
    codes += stride;
    tables += tableStride;
    if (scales) scales += scalesStride;
    if (bias) bias += 4;
  }
}

/** The values of two bytes' codes. */
// @ts-ignore: decorator
@inline
function four(pairs: usize, a: usize, b: usize): v128 {
  return v128.load64_lane(pairs + (b << 3), v128.load64_zero(pairs + (a << 3)), 1);
}

/** The two values of every byte. */
function spreadPairs(table: usize, to: usize): void {
  for (let high = 0; high < 16; high++) {
    const b = v128.load32_splat(table + ((<usize>high) << 2));
    for (let low = 0; low < 16; low += 4) {
      const a = v128.load(table + ((<usize>low) << 2));
      v128.store(to, v128.shuffle<f32>(a, b, 0, 4, 1, 5));
      v128.store(to, v128.shuffle<f32>(a, b, 2, 6, 3, 7), 16);
      to += 32;
    }
  }
}

/**
 * Codes of columns [k0, k0 + cols) → f32; each product with a scale rounded once, as in `@lmq/formats`.
 * @param codes first row's codes, column 0; k0 is even
 * @param groupSize any
 */
export function decodeTable(
  codes: usize,
  codesStride: usize,
  tables: usize,
  tableStride: usize,
  scales: usize,
  scalesStride: usize,
  groupSize: i32,
  dst: usize,
  dstStride: usize,
  rows: i32,
  k0: i32,
  cols: i32,
): void {
  const mask = i8x16.splat(15);
  for (let r: usize = 0; r < <usize>rows; r++) {
    const table = tables + r * tableStride;
    const p0 = plane0(table);
    const p1 = plane1(table);
    const p2 = plane2(table);
    const p3 = plane3(table);
    let q = codes + r * codesStride + ((<usize>k0) >> 1);
    let to = dst + r * dstStride;
    let c = 0;
    for (; c + 16 <= cols; c += 16) {
      const v = v128.load64_zero(q);
      const low = v128.and(v, mask);
      const high = v128.and(i16x8.shr_u(v, 4), mask);
      const i = lower(low, high);
      const b0 = pick(p0, i);
      const b1 = pick(p1, i);
      const b2 = pick(p2, i);
      const b3 = pick(p3, i);
      let l = lower(b0, b1);
      let h = lower(b2, b3);
      v128.store(to, first(l, h));
      v128.store(to, second(l, h), 16);
      l = upper(b0, b1);
      h = upper(b2, b3);
      v128.store(to, first(l, h), 32);
      v128.store(to, second(l, h), 48);
      q += 8;
      to += 64;
    }
    for (; c < cols; c++) {
      const byte = <usize>load<u8>(q + (((<usize>c) & 15) >> 1));
      store<f32>(to, load<f32>(table + ((c & 1 ? byte >> 4 : byte & 15) << 2)));
      to += 4;
    }
    if (!scales) continue;
    const s = scales + r * scalesStride;
    for (let g = k0 / groupSize, from = k0; from < k0 + cols; g++) {
      const end = min((g + 1) * groupSize, k0 + cols);
      const scale = load<f32>(s + ((<usize>g) << 2));
      let at = dst + r * dstStride + ((<usize>(from - k0)) << 2);
      for (; from + 4 <= end; from += 4) {
        v128.store(at, f32x4.mul(v128.load(at), f32x4.splat(scale)));
        at += 16;
      }
      for (; from < end; from++) {
        store<f32>(at, load<f32>(at) * scale);
        at += 4;
      }
    }
  }
}
