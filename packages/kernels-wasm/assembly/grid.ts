/**
 * Weights on an affine grid, as kernels-js does it to the bit: float32 division, round half to even, add the zero point, clamp; NaN
 * gives code 0, a scale of 0 gives the zero point's code.
 * @module
 */

/** Codes of 4 weights as floats 0 … maxCode. `used` is all ones where the scale is not 0. */
// @ts-ignore: decorator
@inline
export function gridCodes(w: v128, scale: v128, zero: v128, maxCode: v128, used: v128): v128 {
  const steps = v128.and(f32x4.nearest(f32x4.div(w, scale)), used);
  const code = f32x4.add(steps, zero);
  // the comparison is false for NaN
  return f32x4.min(v128.and(code, f32x4.gt(code, f32x4.splat(0))), maxCode);
}

/** One weight. */
// @ts-ignore: decorator
@inline
export function gridCode(w: f32, scale: f32, zero: f32, maxCode: f32): f32 {
  const code: f32 = (scale == 0 ? <f32>0 : nearest<f32>(w / scale)) + zero;
  return code > 0 ? min<f32>(code, maxCode) : <f32>0;
}
