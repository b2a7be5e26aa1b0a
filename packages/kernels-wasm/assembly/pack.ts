/**
 * Panels for gemm.ts: a panel holds `width` (4 or 8) neighbouring rows or columns, k after k; the last panel is padded with zeros.
 * @module
 */

/** Packs `count` rows of k adjacent values (row-major A, or B given transposed): transposes 4 x 4 at a time. */
export function packRows(src: usize, stride: usize, count: i32, k: i32, dst: usize, width: i32): void {
  const step = (<usize>width) << 2;
  for (let p = 0; p < count; p += width) {
    for (let q = 0; q < width; q += 4) {
      const rows = min(4, count - p - q);
      const to = dst + ((<usize>q) << 2);
      if (rows >= 4) packQuad(src + <usize>(p + q) * stride, stride, k, to, step);
      else packFew(src + <usize>(p + q) * stride, stride, rows, k, to, step);
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

/** Fewer than 4 rows left (or none): zeros take the place of the missing ones. */
function packFew(r0: usize, stride: usize, rows: i32, k: i32, dst: usize, step: usize): void {
  const zero = f32x4.splat(0);
  for (let i = 0; i < k; i++) {
    v128.store(dst, zero);
    let from = r0;
    for (let r = 0; r < rows; r++) {
      store<f32>(dst + ((<usize>r) << 2), load<f32>(from));
      from += stride;
    }
    dst += step;
    r0 += 4;
  }
}

/** Packs `count` columns of k rows (row-major B, or A given transposed): copies. */
export function packColumns(src: usize, stride: usize, count: i32, k: i32, dst: usize, width: i32): void {
  const zero = f32x4.splat(0);
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
    } else if (left == 4 && width == 4) {
      for (let i = 0; i < k; i++) {
        v128.store(dst, v128.load(from));
        from += stride;
        dst += 16;
      }
    } else {
      for (let i = 0; i < k; i++) {
        v128.store(dst, zero);
        if (width == 8) v128.store(dst, zero, 16);
        for (let q: usize = 0; q < (<usize>left) << 2; q += 4) store<f32>(dst + q, load<f32>(from + q));
        from += stride;
        dst += (<usize>width) << 2;
      }
    }
  }
}
