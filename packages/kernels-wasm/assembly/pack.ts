/**
 * Panels for gemm.ts: a panel holds `width` (ROWS of gemm.ts, or 8) neighbouring rows or columns, k after k; the last panel is padded with zeros.
 * @module
 */

/** Packs `count` rows of k adjacent values (row-major A, or B given transposed): transposes 4 x 4 at a time. */
export function packRows(src: usize, stride: usize, count: i32, k: i32, dst: usize, width: i32): void {
  const step = (<usize>width) << 2;
  for (let p = 0; p < count; p += width) {
    for (let q = 0; q < width; q += 4) {
      const room = min(4, width - q);
      const rows = min(room, count - p - q);
      const to = dst + ((<usize>q) << 2);
      if (rows >= 4) packQuad(src + <usize>(p + q) * stride, stride, k, to, step);
      else packFew(src + <usize>(p + q) * stride, stride, rows, room, k, to, step);
    }
    dst += <usize>k * step;
  }
}

function packQuad(r0: usize, stride: usize, k: i32, dst: usize, step: usize): void {
  let r1 = r0 + stride;
  let r2 = r1 + stride;
  let r3 = r2 + stride;
  let i = 0;
  for (; i + 4 <= k; i += 4) {
    const a = v128.load(r0);
    const b = v128.load(r1);
    const c = v128.load(r2);
    const d = v128.load(r3);
    const ab0 = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const ab1 = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const cd0 = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const cd1 = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    v128.store(dst, v128.shuffle<f64>(ab0, cd0, 0, 2));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(ab0, cd0, 1, 3));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(ab1, cd1, 0, 2));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(ab1, cd1, 1, 3));
    dst += step;
    r0 += 16;
    r1 += 16;
    r2 += 16;
    r3 += 16;
  }
  for (; i < k; i++) {
    store<f32>(dst, load<f32>(r0));
    store<f32>(dst, load<f32>(r1), 4);
    store<f32>(dst, load<f32>(r2), 8);
    store<f32>(dst, load<f32>(r3), 12);
    dst += step;
    r0 += 4;
    r1 += 4;
    r2 += 4;
    r3 += 4;
  }
}

/** Fewer than 4 rows left (or none, or no room for 4): zeros take the place of missing ones. */
function packFew(r0: usize, stride: usize, rows: i32, room: i32, k: i32, dst: usize, step: usize): void {
  for (let r = 0; r < room; r++) {
    let to = dst;
    for (let i: usize = 0; i < (<usize>k) << 2; i += 4) {
      store<f32>(to, r < rows ? load<f32>(r0 + i) : 0);
      to += step;
    }
    r0 += stride;
    dst += 4;
  }
}

/** Packs `count` columns of k rows (row-major B, or A given transposed): copies. */
export function packColumns(src: usize, stride: usize, count: i32, k: i32, dst: usize, width: i32): void {
  for (let p = 0; p < count; p += width) {
    const left = min(width, count - p);
    let from = src + ((<usize>p) << 2);
    if (left == 8) {
      for (let i = 0; i < k; i++) {
        v128.store(dst, v128.load(from));
        v128.store(dst, v128.load(from, 16), 16);
        from += stride;
        dst += 32;
      }
    } else if (left == width) {
      for (let i = 0; i < k; i++) {
        v128.store(dst, v128.load(from));
        for (let q: usize = 16; q < (<usize>width) << 2; q += 4) store<f32>(dst + q, load<f32>(from + q));
        from += stride;
        dst += (<usize>width) << 2;
      }
    } else {
      for (let i = 0; i < k; i++) {
        for (let q: usize = 0; q < (<usize>width) << 2; q += 4) store<f32>(dst + q, q < (<usize>left) << 2 ? load<f32>(from + q) : 0);
        from += stride;
        dst += (<usize>width) << 2;
      }
    }
  }
}
