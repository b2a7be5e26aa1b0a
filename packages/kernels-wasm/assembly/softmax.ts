/**
 * softmax per row, in three passes: maximum, e^(x - max) and its sum (f32, 4 lanes), division.
 * @module
 */
import { exp1, exp4 } from './exp';
import { total } from './gemv';

export function softmax(out: usize, outStride: usize, x: usize, xStride: usize, rows: i32, cols: i32): void {
  for (let r = 0; r < rows; r++) {
    softmaxRow(out, x, cols, 1);
    out += outStride;
    x += xStride;
  }
}

/** softmax(factor x); out may be x. */
export function softmaxRow(out: usize, x: usize, n: i32, factor: f32): void {
  if (n <= 0) return;
  const f = f32x4.splat(factor);
  let vm = f32x4.splat(-Infinity);
  let p = x;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    vm = f32x4.max(vm, f32x4.mul(v128.load(p), f));
    p += 16;
  }
  let m = max(max(f32x4.extract_lane(vm, 0), f32x4.extract_lane(vm, 1)), max(f32x4.extract_lane(vm, 2), f32x4.extract_lane(vm, 3)));
  for (; i < n; i++) {
    m = max(m, load<f32>(p) * factor);
    p += 4;
  }
  vm = f32x4.splat(m);
  let vs = f32x4.splat(0);
  p = x;
  let to = out;
  for (i = 0; i + 4 <= n; i += 4) {
    const e = exp4(f32x4.sub(f32x4.mul(v128.load(p), f), vm));
    vs = f32x4.add(vs, e);
    v128.store(to, e);
    p += 16;
    to += 16;
  }
  let s = total(vs);
  for (; i < n; i++) {
    const e = exp1(load<f32>(p) * factor - m);
    s += e;
    store<f32>(to, e);
    p += 4;
    to += 4;
  }
  vs = f32x4.splat(s);
  for (i = 0; i + 4 <= n; i += 4) {
    v128.store(out, f32x4.div(v128.load(out), vs));
    out += 16;
  }
  for (; i < n; i++) {
    store<f32>(out, load<f32>(out) / s);
    out += 4;
  }
}
