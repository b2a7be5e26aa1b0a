/**
 * OBS sweep to the nearest entry of each row's table. Distances to 4 entries at a time; the rest as in obsSweep. Single f32 operations: the
 * same bytes as kernels-js.
 * @module
 */
import { spread1, spread2 } from './spread';

/** `errors` and `codes` cover columns [start, end); tables hold `entries` values per row. */
export function obsSweepTable(
  w: usize,
  wStride: usize,
  u: usize,
  uStride: usize,
  errors: usize,
  errorsStride: usize,
  codes: usize,
  codesStride: usize,
  tables: usize,
  tablesStride: usize,
  entries: i32,
  rows: i32,
  start: i32,
  end: i32,
  blockEnd: i32,
): void {
  let r = 0;
  for (; r + 2 <= rows; r += 2) {
    for (let i = start; i < end; i++) {
      const at = (<usize>i) << 2;
      const row = u + (<usize>i) * uStride;
      const diagonal = load<f32>(row + at);
      const out = (<usize>(i - start)) << 2;
      const e0 = take(w + at, tables, entries, diagonal, errors + out, codes + (i - start));
      const e1 = take(w + wStride + at, tables + tablesStride, entries, diagonal, errors + errorsStride + out, codes + codesStride + (i - start));
      spread2(w + at + 4, wStride, row + at + 4, blockEnd - i - 1, e0, e1);
    }
    w += wStride << 1;
    errors += errorsStride << 1;
    codes += codesStride << 1;
    tables += tablesStride << 1;
  }
  if (r < rows) {
    for (let i = start; i < end; i++) {
      const at = (<usize>i) << 2;
      const row = u + (<usize>i) * uStride;
      const e0 = take(w + at, tables, entries, load<f32>(row + at), errors + ((<usize>(i - start)) << 2), codes + (i - start));
      spread1(w + at + 4, row + at + 4, blockEnd - i - 1, e0);
    }
  }
}

/** Quantizes one weight; returns its error. */
function take(w: usize, table: usize, entries: i32, diagonal: f32, errors: usize, codes: usize): f32 {
  const value = load<f32>(w);
  const code = nearestEntry(value, table, entries);
  const q = load<f32>(table + ((<usize>code) << 2));
  const e: f32 = (value - q) / diagonal;
  store<f32>(w, q);
  store<f32>(errors, e);
  store<u8>(codes, <u8>code);
  return e;
}

/** The first of the nearest entries; 0 for NaN and infinity, whose distances are never less. */
// @ts-ignore: decorator
@inline
function nearestEntry(w: f32, table: usize, entries: i32): i32 {
  let least = <f32>Infinity;
  let code = 0;
  let k = 0;
  if (entries >= 8) {
    const value = f32x4.splat(w);
    let nearest = f32x4.splat(least);
    let first = i32x4.splat(0);
    let index = i32x4(0, 1, 2, 3);
    const step = i32x4.splat(4);
    for (; k + 4 <= entries; k += 4) {
      const distance = f32x4.abs(f32x4.sub(value, v128.load(table + ((<usize>k) << 2))));
      const closer = f32x4.lt(distance, nearest);
      nearest = v128.bitselect(distance, nearest, closer);
      first = v128.bitselect(index, first, closer);
      index = i32x4.add(index, step);
    }
    let all = f32x4.pmin(nearest, v128.shuffle<i32>(nearest, nearest, 2, 3, 0, 1));
    all = f32x4.pmin(all, v128.shuffle<i32>(all, all, 1, 0, 3, 2));
    first = v128.bitselect(first, i32x4.splat(i32.MAX_VALUE), f32x4.eq(nearest, all));
    first = i32x4.min_s(first, v128.shuffle<i32>(first, first, 2, 3, 0, 1));
    first = i32x4.min_s(first, v128.shuffle<i32>(first, first, 1, 0, 3, 2));
    least = f32x4.extract_lane(all, 0);
    code = i32x4.extract_lane(first, 0);
  }
  for (; k < entries; k++) {
    const distance = abs<f32>(w - load<f32>(table + ((<usize>k) << 2)));
    if (distance < least) {
      least = distance;
      code = k;
    }
  }
  return code;
}
