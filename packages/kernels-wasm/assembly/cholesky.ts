/**
 * Base cases of the recursive Cholesky factorization (src/_wasm/linalg.ts). Sums in f64, results stored in f32.
 * @module
 */
import { nmadd } from './fma';
import { own, workBytes } from './work';

/**
 * Factors the lower triangle of a small matrix in place. Returns 0 when a pivot is not positive and finite. Four rows at a time: each sum waits for
 * its last addition, and this is the part of Cholesky that no other thread can share.
 */
export function choleskySmall(a: usize, stride: usize, n: i32): i32 {
  for (let j = 0; j < n; j++) {
    const rj = a + <usize>j * stride;
    let d = <f64>load<f32>(rj + ((<usize>j) << 2));
    for (let k: usize = 0; k < (<usize>j) << 2; k += 4) {
      const v = <f64>load<f32>(rj + k);
      d -= v * v;
    }
    const pivot = <f32>sqrt(d);
    if (!(pivot > 0 && pivot < Infinity)) return 0; // sqrt of a negative number is NaN
    store<f32>(rj + ((<usize>j) << 2), pivot);
    const inverse = 1.0 / <f64>pivot;
    const at = (<usize>j) << 2;
    let i = j + 1;
    let r0 = rj + stride;
    for (; i + 4 <= n; i += 4) {
      const r1 = r0 + stride;
      const r2 = r1 + stride;
      const r3 = r2 + stride;
      let s0 = <f64>load<f32>(r0 + at);
      let s1 = <f64>load<f32>(r1 + at);
      let s2 = <f64>load<f32>(r2 + at);
      let s3 = <f64>load<f32>(r3 + at);
      for (let k: usize = 0; k < at; k += 4) {
        const v = <f64>load<f32>(rj + k);
        s0 -= <f64>load<f32>(r0 + k) * v;
        s1 -= <f64>load<f32>(r1 + k) * v;
        s2 -= <f64>load<f32>(r2 + k) * v;
        s3 -= <f64>load<f32>(r3 + k) * v;
      }
      store<f32>(r0 + at, <f32>(s0 * inverse));
      store<f32>(r1 + at, <f32>(s1 * inverse));
      store<f32>(r2 + at, <f32>(s2 * inverse));
      store<f32>(r3 + at, <f32>(s3 * inverse));
      r0 = r3 + stride;
    }
    for (; i < n; i++) {
      let s = <f64>load<f32>(r0 + at);
      for (let k: usize = 0; k < at; k += 4) s -= <f64>load<f32>(r0 + k) * <f64>load<f32>(rj + k);
      store<f32>(r0 + at, <f32>(s * inverse));
      r0 += stride;
    }
  }
  return 1;
}

/**
 * B ← B L^-T for a small lower triangular L [n, n] and B [rows, n]: forward substitution for 16 rows of B at once, one row per lane.
 * f32 accumulators.
 * @param n at most 64
 * @param work 64 n bytes of the thread's part: 16 rows of B, transposed; then 4 n bytes: reciprocals of the diagonal
 */
export function solveSmall(l: usize, lStride: usize, n: i32, b: usize, bStride: usize, rows: i32, work: usize): void {
  const scratch = own(work, workBytes());
  const inverse = scratch + ((<usize>n) << 6);
  for (let j: usize = 0; j < <usize>n; j++) store<f32>(inverse + (j << 2), <f32>(1.0 / <f64>load<f32>(l + j * lStride + (j << 2))));
  for (let r = 0; r < rows; r += 16) {
    const count = min(16, rows - r);
    const base = b + <usize>r * bStride;
    if (count < 16) memory.fill(scratch, 0, (<usize>n) << 6);
    for (let i: usize = 0; i < <usize>count; i++) {
      const from = base + i * bStride;
      for (let j: usize = 0; j < <usize>n; j++) store<f32>(scratch + (j << 6) + (i << 2), load<f32>(from + (j << 2)));
    }
    for (let j: usize = 0; j < <usize>n; j++) {
      const at = scratch + (j << 6);
      let x0 = v128.load(at);
      let x1 = v128.load(at, 16);
      let x2 = v128.load(at, 32);
      let x3 = v128.load(at, 48);
      let row = l + j * lStride;
      for (let k = scratch; k < at; k += 64) {
        const f = v128.load_splat<f32>(row);
        row += 4;
        x0 = nmadd(f, v128.load(k), x0);
        x1 = nmadd(f, v128.load(k, 16), x1);
        x2 = nmadd(f, v128.load(k, 32), x2);
        x3 = nmadd(f, v128.load(k, 48), x3);
      }
      const d = v128.load_splat<f32>(inverse + (j << 2));
      v128.store(at, f32x4.mul(x0, d));
      v128.store(at, f32x4.mul(x1, d), 16);
      v128.store(at, f32x4.mul(x2, d), 32);
      v128.store(at, f32x4.mul(x3, d), 48);
    }
    for (let i: usize = 0; i < <usize>count; i++) {
      const to = base + i * bStride;
      for (let j: usize = 0; j < <usize>n; j++) store<f32>(to + (j << 2), load<f32>(scratch + (j << 6) + (i << 2)));
    }
  }
}
