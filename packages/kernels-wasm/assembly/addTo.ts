/**
 * into += alpha a, in f32: one multiplication, one addition per element.
 * @module
 */

export function addTo(into: usize, intoStride: usize, a: usize, aStride: usize, rows: i32, cols: i32, alpha: f32): void {
  for (let r = 0; r < rows; r++) {
    axpy(into, a, cols, alpha);
    into += intoStride;
    a += aStride;
  }
}

/** One row: y += alpha x. */
export function axpy(y: usize, x: usize, n: i32, alpha: f32): void {
  const f = f32x4.splat(alpha);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(y, f32x4.add(v128.load(y), f32x4.mul(f, v128.load(x))));
    y += 16;
    x += 16;
  }
  for (; i < n; i++) {
    store<f32>(y, load<f32>(y) + alpha * load<f32>(x));
    y += 4;
    x += 4;
  }
}
