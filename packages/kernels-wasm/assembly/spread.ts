/**
 * What an OBS sweep does with a column's error: takes it, times a row of U, from the columns after it. Multiply, then subtract.
 * @module
 */

/** w[j] -= e u[j] for n columns of two rows, `stride` apart. */
// @ts-ignore: decorator
@inline
export function spread2(w: usize, stride: usize, u: usize, n: i32, e0: f32, e1: f32): void {
  const f0 = f32x4.splat(e0);
  const f1 = f32x4.splat(e1);
  let w1 = w + stride;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const x = v128.load(u);
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(f0, x)));
    v128.store(w1, f32x4.sub(v128.load(w1), f32x4.mul(f1, x)));
    u += 16;
    w += 16;
    w1 += 16;
  }
  for (; i < n; i++) {
    const x = load<f32>(u);
    store<f32>(w, load<f32>(w) - e0 * x);
    store<f32>(w1, load<f32>(w1) - e1 * x);
    u += 4;
    w += 4;
    w1 += 4;
  }
}

/** The same for one row. */
// @ts-ignore: decorator
@inline
export function spread1(w: usize, u: usize, n: i32, e: f32): void {
  const f = f32x4.splat(e);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(f, v128.load(u))));
    u += 16;
    w += 16;
  }
  for (; i < n; i++) {
    store<f32>(w, load<f32>(w) - e * load<f32>(u));
    u += 4;
    w += 4;
  }
}
