/**
 * One weight on an affine grid. All steps are single float32 operations, so that backends that compute in float32 take the same codes:
 * float32 division, round half to even, add the zero point, clamp.
 * @module
 */

const fround = Math.fround;

/** Added and taken away again, rounds a double below 2^51 to an integer, half to even. What is larger is clamped by the caller. */
const ROUND = 1.5 * 2 ** 52;

/**
 * The code of a weight, 0 … maxCode. A scale of 0 gives the zero point's code (the only value on that grid is 0), never NaN. A NaN
 * weight gives code 0: whoever reads weights from a file refuses NaN by name before they come here.
 */
export function gridCode(w: number, scale: number, zeroPoint: number, maxCode: number): number {
  const steps = scale === 0 ? 0 : fround(w / scale) + ROUND - ROUND;
  const code = steps + zeroPoint;
  if (!(code > 0)) return 0; // below the grid, or NaN
  return Math.min(code, maxCode);
}

/** The value of a code: (code - zeroPoint) * scale. */
export function gridValue(code: number, scale: number, zeroPoint: number): number {
  return fround(fround(code - zeroPoint) * scale);
}
