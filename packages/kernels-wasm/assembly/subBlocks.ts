/**
 * Four sub-blocks side by side: what the searches of scales work on. Each lane of a vector belongs to one sub-block, so that its sums add up
 * in the order that bytes of the reference want, and four searches run in one.
 * @module
 */

/** Lays out 4 sub-blocks of `count` (a multiple of 4) weights that follow each other: vector i holds weight i of each. */
export function sideBySide(x: usize, count: usize, to: usize): void {
  const step = count << 2;
  for (const end = x + step; x < end; x += 16) {
    const a = v128.load(x);
    const b = v128.load(x + step);
    const c = v128.load(x + (step << 1));
    const d = v128.load(x + step * 3);
    const ab0 = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const ab1 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const cd0 = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
    const cd1 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<i64>(ab0, cd0, 0, 2));
    v128.store(to, v128.shuffle<i64>(ab0, cd0, 1, 3), 16);
    v128.store(to, v128.shuffle<i64>(ab1, cd1, 0, 2), 32);
    v128.store(to, v128.shuffle<i64>(ab1, cd1, 1, 3), 48);
    to += 64;
  }
}

/** Nearest whole numbers, half to even, kept in low … high. */
// @ts-ignore: decorator
@inline
export function levels(v: v128, low: v128, high: v128): v128 {
  return f32x4.pmax(low, f32x4.pmin(high, f32x4.nearest(v)));
}
