/**
 * The three roundings to an integer that the references of this field use. `Math.round` (half towards +∞) is none of them.
 * All take and return doubles and pass NaN and ±∞ through; `rint` and `roundAway` keep the sign of zero.
 *
 * Who uses which: half to even: PyTorch, NumPy and everything made with them, and ggml's k-quants; half away from zero: ggml Q8_0 and
 * ONNX Runtime; trunc(x + 0.5): ggml Q4_0 and its kin, on values that are not negative.
 * @module
 */

/** From here on every double is an integer, so adding and subtracting it rounds half to even. */
const TWO_52 = 4503599627370496;

/** Rounds half to even (`rint`, `torch.round`). */
export function rint(x: number): number {
  const a = Math.abs(x);
  if (!(a > 0 && a < TWO_52)) return x;
  const r = a + TWO_52 - TWO_52;
  return x < 0 ? -r : r;
}

/** Rounds half away from zero (C `round`). */
export function roundAway(x: number): number {
  const a = Math.abs(x);
  if (!(a > 0 && a < TWO_52)) return x;
  const whole = Math.floor(a);
  // not floor(a + 0.5): that sum rounds up for the double just below a half
  const r = a - whole >= 0.5 ? whole + 1 : whole;
  return x < 0 ? -r : r;
}

/** `trunc(x + 0.5)`: half up for x >= 0. Callers that follow float32 code add in float32 themselves. */
export function truncHalfUp(x: number): number {
  return Math.trunc(x + 0.5);
}
