/**
 * OBS sweep (Frantar et al. 2023, GPTQ algorithm 1, inner loop). Rows are independent; the update of a row's later columns runs 4 columns
 * at a time, for two rows that share the loads of U. Single f32 operations (multiply, then subtract): the same bytes as kernels-js.
 * @module
 */
import { gridCode } from './grid';
import { spread1, spread2 } from './spread';

/** `errors` and `codes` cover columns [start, end); scales and zeros hold one value per row. */
export function obsSweep(
  w: usize,
  wStride: usize,
  u: usize,
  uStride: usize,
  errors: usize,
  errorsStride: usize,
  codes: usize,
  codesStride: usize,
  scales: usize,
  scalesStride: usize,
  zeros: usize,
  zerosStride: usize,
  rows: i32,
  maxCode: f32,
  start: i32,
  end: i32,
  blockEnd: i32,
): void {
  let r = 0;
  for (; r + 2 <= rows; r += 2) {
    const s0 = load<f32>(scales);
    const s1 = load<f32>(scales + scalesStride);
    const z0 = load<f32>(zeros);
    const z1 = load<f32>(zeros + zerosStride);
    for (let i = start; i < end; i++) {
      const at = (<usize>i) << 2;
      const row = u + (<usize>i) * uStride;
      const diagonal = load<f32>(row + at);
      const out = (<usize>(i - start)) << 2;
      const e0 = take(w + at, s0, z0, maxCode, diagonal, errors + out, codes + (i - start));
      const e1 = take(w + wStride + at, s1, z1, maxCode, diagonal, errors + errorsStride + out, codes + codesStride + (i - start));
      spread2(w + at + 4, wStride, row + at + 4, blockEnd - i - 1, e0, e1);
    }
    w += wStride << 1;
    errors += errorsStride << 1;
    codes += codesStride << 1;
    scales += scalesStride << 1;
    zeros += zerosStride << 1;
  }
  if (r < rows) {
    const s0 = load<f32>(scales);
    const z0 = load<f32>(zeros);
    for (let i = start; i < end; i++) {
      const at = (<usize>i) << 2;
      const row = u + (<usize>i) * uStride;
      const e0 = take(w + at, s0, z0, maxCode, load<f32>(row + at), errors + ((<usize>(i - start)) << 2), codes + (i - start));
      spread1(w + at + 4, row + at + 4, blockEnd - i - 1, e0);
    }
  }
}

/** Quantizes one weight; returns its error. */
// @ts-ignore: decorator
@inline
function take(w: usize, scale: f32, zero: f32, maxCode: f32, diagonal: f32, errors: usize, codes: usize): f32 {
  const value = load<f32>(w);
  const code = gridCode(value, scale, zero, maxCode);
  const q: f32 = (code - zero) * scale;
  const e: f32 = (value - q) / diagonal;
  store<f32>(w, q);
  store<f32>(errors, e);
  store<u8>(codes, <u8>(<i32>code));
  return e;
}
