/**
 * One activation row times 4-bit codes of tables: y[r] = Σ_g s_g Σ x T[q] (+ bias). f32 accumulators, 4 lanes.
 *
 * 16 bytes are 32 codes: the low halves of bytes are even columns, the high ones odd columns, and x was laid out like this beforehand.
 * @module
 */
import { madd } from './fma';
import { total } from './gemv';
import { first, lower, pick, plane0, plane1, plane2, plane3, second, upper } from './lookUp';

/** x in blocks of 32 columns: the even ones, then the odd ones; zeros behind the last. */
export function prepareTable(x: usize, k: i32, dst: usize): void {
  for (let b = 0; b < k; b += 32) {
    for (let odd = 0; odd < 2; odd++) {
      for (let c = b + odd; c < b + 32; c += 2) {
        store<f32>(dst, c < k ? load<f32>(x + ((<usize>c) << 2)) : 0);
        dst += 4;
      }
    }
  }
}

/**
 * @param x prepared by prepareTable
 * @param codes rows of packed codes; 16 bytes behind the last row must be readable
 * @param tables 16 f32; `tableStride` from row to row, 0: one table for all
 * @param scales f32 per group, or 0: all are 1
 * @param groupSize a multiple of 32, or at least k
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
): void {
  const mask = i8x16.splat(15);
  for (let r = 0; r < rows; r++) {
    const p0 = plane0(tables);
    const p1 = plane1(tables);
    const p2 = plane2(tables);
    const p3 = plane3(tables);
    let q = codes;
    let px = x;
    let s = scales;
    let t = f32x4.splat(0);
    for (let c = 0; c < k; c += groupSize) {
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      for (let n = (min(groupSize, k - c) + 31) >> 5; n > 0; n--) {
        const v = v128.load(q);
        let i = v128.and(v, mask);
        let b0 = pick(p0, i);
        let b1 = pick(p1, i);
        let b2 = pick(p2, i);
        let b3 = pick(p3, i);
        let l = lower(b0, b1);
        let h = lower(b2, b3);
        a0 = madd(first(l, h), v128.load(px), a0);
        a1 = madd(second(l, h), v128.load(px, 16), a1);
        l = upper(b0, b1);
        h = upper(b2, b3);
        a2 = madd(first(l, h), v128.load(px, 32), a2);
        a3 = madd(second(l, h), v128.load(px, 48), a3);
        i = v128.and(i16x8.shr_u(v, 4), mask);
        b0 = pick(p0, i);
        b1 = pick(p1, i);
        b2 = pick(p2, i);
        b3 = pick(p3, i);
        l = lower(b0, b1);
        h = lower(b2, b3);
        a0 = madd(first(l, h), v128.load(px, 64), a0);
        a1 = madd(second(l, h), v128.load(px, 80), a1);
        l = upper(b0, b1);
        h = upper(b2, b3);
        a2 = madd(first(l, h), v128.load(px, 96), a2);
        a3 = madd(second(l, h), v128.load(px, 112), a3);
        px += 128;
        q += 16;
      }
      const a = f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
      if (scales) {
        t = madd(a, v128.load_splat<f32>(s), t);
        s += 4;
      } else t = f32x4.add(t, a);
    }
    store<f32>(y, bias ? total(t) + load<f32>(bias) : total(t));
    y += 4;
    codes += stride;
    tables += tableStride;
    if (scales) scales += scalesStride;
    if (bias) bias += 4;
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
