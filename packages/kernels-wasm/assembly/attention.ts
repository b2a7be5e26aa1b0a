/**
 * Causal attention of one head. `attentionRow` does one query (decoding), `attentionTile` a tile of queries, whose scores and weighted sum are
 * gemms on packed panels. f32 accumulators.
 * @module
 */
import { madd } from './fma';
import { gemmBlock, ROWS } from './gemm';
import { total } from './gemv';
import { packColumns, packRows } from './pack';
import { softmaxRow } from './softmax';
import { own } from './work';

/**
 * out = softmax(scale q kᵀ) v over `keys` keys of one head.
 * @param scratch `scratchBytes` for each thread: `keys` scores, f32
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
  scratch: usize,
  scratchBytes: usize,
): void {
  const scores = own(scratch, scratchBytes);
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
function causalSoftmax(scores: usize, stride: usize, rows: i32, cols: i32, seen: i32, window: i32): void {
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

/** Keys that are packed at a time: a panel of 8 of them stays in L1. */
const KEYS = 384;
/** No tile of a product is skipped. */
const ALL = 1 << 30;

// @ts-ignore: decorator
@inline
function whole(n: i32, size: i32): usize {
  return <usize>((n + size - 1) / size) * <usize>size;
}

/** Bytes of scratch memory that attentionTile needs: scores, packed queries or probabilities, packed keys or values. */
export function attentionScratch(rows: i32, keys: i32, dim: i32): usize {
  const block = min(keys, KEYS);
  return (((<usize>rows * <usize>keys + whole(rows, ROWS) * <usize>max(dim, block) + max(whole(block, 8) * <usize>dim, <usize>block * whole(dim, 8))) << 2) + 63) & ~63;
}

/**
 * out [rows, dim] = softmax(scale q kᵀ) v.
 * @param seen keys that the first query sees, but for the window; each next one sees one more
 * @param allScratch `scratchBytes` for each thread: at least as many as attentionScratch says
 */
export function attentionTile(
  out: usize,
  outStride: usize,
  q: usize,
  qStride: usize,
  k: usize,
  kStride: usize,
  v: usize,
  vStride: usize,
  rows: i32,
  keys: i32,
  dim: i32,
  scale: f32,
  seen: i32,
  window: i32,
  allScratch: usize,
  scratchBytes: usize,
  work: usize,
): void {
  const scratch = own(allScratch, scratchBytes);
  const stride = (<usize>keys) << 2;
  const packedA = scratch + <usize>rows * stride;
  const packedB = packedA + ((whole(rows, ROWS) * <usize>max(dim, min(keys, KEYS))) << 2);
  packRows(q, qStride, rows, dim, packedA, ROWS);
  for (let c = 0; c < keys; c += KEYS) {
    const n = min(KEYS, keys - c);
    packRows(k + <usize>c * kStride, kStride, n, dim, packedB, 8);
    gemmBlock(rows, n, dim, packedA, packedB, scratch + ((<usize>c) << 2), stride, scale, 0, work, ALL);
  }
  causalSoftmax(scratch, stride, rows, keys, seen, window);
  for (let c = 0; c < keys; c += KEYS) {
    const n = min(KEYS, keys - c);
    packRows(scratch + ((<usize>c) << 2), stride, rows, n, packedA, ROWS);
    packColumns(v + <usize>c * vStride, vStride, dim, n, packedB, 8);
    gemmBlock(rows, dim, n, packedA, packedB, out, outStride, 1, c == 0 ? 0 : 1, work, ALL);
  }
}
