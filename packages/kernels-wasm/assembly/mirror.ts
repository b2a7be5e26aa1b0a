/**
 * Copies the lower triangle of a square matrix to its upper one, in 32 x 32 blocks so that both sides stay in cache. Exact.
 * @module
 */

/** Rows [from, to) of the lower triangle, `from` a multiple of 32. */
export function mirror(h: usize, stride: usize, from: i32, to: i32): void {
  for (let bi = from; bi < to; bi += 32) {
    const iEnd = min(to, bi + 32);
    for (let bj = 0; bj <= bi; bj += 32) {
      for (let i = bi; i < iEnd; i++) {
        const row = h + <usize>i * stride;
        const jEnd = min(i, bj + 32);
        let dst = h + <usize>bj * stride + ((<usize>i) << 2);
        for (let j = bj; j < jEnd; j++) {
          store<f32>(dst, load<f32>(row + ((<usize>j) << 2)));
          dst += stride;
        }
      }
    }
  }
}
