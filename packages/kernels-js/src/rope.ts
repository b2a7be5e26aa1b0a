/**
 * Rotary position embedding (Su et al. 2021) from tables: each pair of elements (a, b) of a head becomes (a cos - b sin, b cos + a sin).
 * Products and sum in double, one rounding to float32.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/**
 * Rotates x [tokens, heads * headDim] in place. Only the first `2 * cos.cols` elements of a head turn.
 * @param interleaved element 2i pairs with 2i + 1; else i with i + cos.cols
 * @param position row of the tables for the first row of x
 */
export function rope(
  x: Mat<Float32Array>,
  cos: Mat<Float32Array>,
  sin: Mat<Float32Array>,
  headDim: number,
  interleaved: boolean,
  position: number,
): void {
  const pairs = cos.cols;
  const [first, second] = interleaved ? [2, 1] : [1, pairs];
  for (let r = 0; r < x.rows; r++) {
    const cosRow = cos.offset + (position + r) * cos.stride;
    const sinRow = sin.offset + (position + r) * sin.stride;
    const row = x.offset + r * x.stride;
    for (let head = row; head < row + x.cols; head += headDim) {
      for (let i = 0; i < pairs; i++) {
        const at = head + i * first;
        const a = x.buffer[at]!;
        const b = x.buffer[at + second]!;
        const c = cos.buffer[cosRow + i]!;
        const s = sin.buffer[sinRow + i]!;
        x.buffer[at] = a * c - b * s;
        x.buffer[at + second] = b * c + a * s;
      }
    }
  }
}
