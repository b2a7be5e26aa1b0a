/**
 * Base case of the recursive inverse of a lower triangular matrix (src/_wasm/linalg.ts): column by column substitution, sums in f64.
 * @module
 */

/** out ← L^-1 (lower triangle; the upper one is left alone). */
export function triangularInverseSmall(out: usize, outStride: usize, l: usize, lStride: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    const row = l + i * lStride;
    const to = out + i * outStride;
    const d = 1.0 / <f64>load<f32>(row + (i << 2));
    for (let j: usize = 0; j < i; j++) {
      let s: f64 = 0;
      let from = out + j * outStride + (j << 2);
      for (let k = j; k < i; k++) {
        s += <f64>load<f32>(row + (k << 2)) * <f64>load<f32>(from);
        from += outStride;
      }
      store<f32>(to + (j << 2), <f32>(-s * d));
    }
    store<f32>(to + (i << 2), <f32>d);
  }
}
