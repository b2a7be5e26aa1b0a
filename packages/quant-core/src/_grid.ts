/**
 * One weight on an affine grid, by the same float32 steps as the backends: divide, round half to even, add the zero point, clamp.
 * @module
 */
const f = Math.fround;

/** Added and taken away again, rounds a double below 2^51 to an integer, half to even; what is larger is clamped. */
const ROUND = 1.5 * 2 ** 52;

/** Code of a finite weight. The scale is not zero. */
export function gridCode(w: number, scale: number, zero: number, maxCode: number): number {
  const code = f(w / scale) + ROUND - ROUND + zero;
  if (code < 0) return 0;
  return Math.min(code, maxCode);
}

/** Value of a code. */
export function gridValue(code: number, scale: number, zero: number): number {
  return f((code - zero) * scale);
}
