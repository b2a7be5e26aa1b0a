/**
 * into[rows[i]] += factors[i] a[i], in the order of i (rows may repeat). f32.
 * @module
 */
import { axpy } from './addTo';

/** @param factors one f32 per row, or 0 for all ones */
export function scatterAdd(
  into: usize,
  intoStride: usize,
  a: usize,
  aStride: usize,
  count: i32,
  cols: i32,
  rows: usize,
  factors: usize,
): void {
  for (let i: usize = 0; i < <usize>count; i++) {
    const f = factors ? load<f32>(factors + (i << 2)) : <f32>1;
    axpy(into + <usize>load<i32>(rows + (i << 2)) * intoStride, a + i * aStride, cols, f);
  }
}
