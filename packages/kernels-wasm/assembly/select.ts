/**
 * Gathers rows and columns. Exact.
 * @module
 */

/** @param rows, cols index lists (i32), or 0 for all in order */
export function select(out: usize, outStride: usize, a: usize, aStride: usize, m: i32, n: i32, rows: usize, cols: usize): void {
  for (let i: usize = 0; i < <usize>m; i++) {
    const from = a + (rows ? <usize>load<i32>(rows + (i << 2)) : i) * aStride;
    const to = out + i * outStride;
    if (!cols) memory.copy(to, from, (<usize>n) << 2);
    else {
      for (let j: usize = 0; j < (<usize>n) << 2; j += 4) {
        store<f32>(to + j, load<f32>(from + ((<usize>load<i32>(cols + j)) << 2)));
      }
    }
  }
}
