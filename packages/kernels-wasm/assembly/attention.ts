/**
 * Causal attention. `attentionRow` does one query of one head from start to end (decoding); for many queries the scores and the weighted
 * sum are gemms (src/_wasm/attention.ts) and `causalSoftmax` stands between them. f32 accumulators.
 * @module
 */
import { madd } from './fma';
import { total } from './gemv';
import { softmaxRow } from './softmax';

/**
 * out = softmax(scale q kᵀ) v over `keys` keys of one head.
 * @param scores keys f32 of scratch
 */
export function attentionRow(
  out: usize,
  q: usize,
  k: usize,
  kStride: usize,
  v: usize,
  vStride: usize,
  keys: i32,
  dim: i32,
  scale: f32,
  scores: usize,
): void {
  dots(scores, q, k, kStride, keys, dim);
  softmaxRow(scores, scores, keys, scale);
  weighted(out, scores, v, vStride, keys, dim);
}

/** scores[t] = q · k[t], 4 keys at a time. */
function dots(scores: usize, q: usize, k: usize, stride: usize, keys: i32, dim: i32): void {
  let t = 0;
  for (; t + 4 <= keys; t += 4) {
    let p0 = k;
    let p1 = p0 + stride;
    let p2 = p1 + stride;
    let p3 = p2 + stride;
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let x = q;
    let d = 0;
    for (; d + 4 <= dim; d += 4) {
      const u = v128.load(x);
      a0 = madd(u, v128.load(p0), a0);
      a1 = madd(u, v128.load(p1), a1);
      a2 = madd(u, v128.load(p2), a2);
      a3 = madd(u, v128.load(p3), a3);
      x += 16;
      p0 += 16;
      p1 += 16;
      p2 += 16;
      p3 += 16;
    }
    let s0 = total(a0);
    let s1 = total(a1);
    let s2 = total(a2);
    let s3 = total(a3);
    for (; d < dim; d++) {
      const u = load<f32>(x);
      s0 += u * load<f32>(p0);
      s1 += u * load<f32>(p1);
      s2 += u * load<f32>(p2);
      s3 += u * load<f32>(p3);
      x += 4;
      p0 += 4;
      p1 += 4;
      p2 += 4;
      p3 += 4;
    }
    store<f32>(scores, s0);
    store<f32>(scores, s1, 4);
    store<f32>(scores, s2, 8);
    store<f32>(scores, s3, 12);
    scores += 16;
    k += stride << 2;
  }
  for (; t < keys; t++) {
    let a = f32x4.splat(0);
    let d: usize = 0;
    const whole = (<usize>(dim & ~3)) << 2;
    for (; d < whole; d += 16) a = madd(v128.load(q + d), v128.load(k + d), a);
    let s = total(a);
    for (; d < (<usize>dim) << 2; d += 4) s += load<f32>(q + d) * load<f32>(k + d);
    store<f32>(scores, s);
    scores += 4;
    k += stride;
  }
}

/** out = Σ p[t] v[t], 16 columns of the head in registers while the keys go by, then 4, then 1. */
function weighted(out: usize, p: usize, v: usize, stride: usize, keys: i32, dim: i32): void {
  const end = p + ((<usize>keys) << 2);
  let d = 0;
  for (; d + 16 <= dim; d += 16) {
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let from = v;
    for (let at = p; at < end; at += 4) {
      const f = v128.load_splat<f32>(at);
      a0 = madd(f, v128.load(from), a0);
      a1 = madd(f, v128.load(from, 16), a1);
      a2 = madd(f, v128.load(from, 32), a2);
      a3 = madd(f, v128.load(from, 48), a3);
      from += stride;
    }
    v128.store(out, a0);
    v128.store(out, a1, 16);
    v128.store(out, a2, 32);
    v128.store(out, a3, 48);
    out += 64;
    v += 64;
  }
  for (; d + 4 <= dim; d += 4) {
    let a = f32x4.splat(0);
    let from = v;
    for (let at = p; at < end; at += 4) {
      a = madd(v128.load_splat<f32>(at), v128.load(from), a);
      from += stride;
    }
    v128.store(out, a);
    out += 16;
    v += 16;
  }
  for (; d < dim; d++) {
    let s: f32 = 0;
    let from = v;
    for (let at = p; at < end; at += 4) {
      s += load<f32>(at) * load<f32>(from);
      from += stride;
    }
    store<f32>(out, s);
    out += 4;
    v += 4;
  }
}

/** Row i of scores [rows, cols]: softmax over the last `window` of the first `seen + i` columns, zeros elsewhere. Scores are already scaled. */
export function causalSoftmax(scores: usize, stride: usize, rows: i32, cols: i32, seen: i32, window: i32): void {
  for (let i = 0; i < rows; i++) {
    const end = min(cols, seen + i);
    const from = max(0, end - window);
    const at = scores + ((<usize>from) << 2);
    memory.fill(scores, 0, (<usize>from) << 2);
    softmaxRow(at, at, end - from, 1);
    memory.fill(scores + ((<usize>end) << 2), 0, (<usize>(cols - end)) << 2);
    scores += stride;
  }
}
