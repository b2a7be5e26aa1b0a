/**
 * Copies the lower triangle of a square matrix to its upper one, in 32 x 32 blocks so that both sides stay in cache. Exact.
 * @module
 */

export function mirror(h: usize, stride: usize, n: i32): void {
  for (let bi = 0; bi < n; bi += 32) {
    const iEnd = min(n, bi + 32);
    for (let bj = 0; bj <= bi; bj += 32) {
      for (let i = bi; i < iEnd; i++) {
        const row = h + <usize>i * stride;
        const jEnd = min(i, bj + 32);
        let to = h + <usize>bj * stride + ((<usize>i) << 2);
        for (let j = bj; j < jEnd; j++) {
          store<f32>(to, load<f32>(row + ((<usize>j) << 2)));
          to += stride;
        }
      }
    }
  }
}
