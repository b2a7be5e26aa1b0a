/**
 * Scale search for symmetric codes that ggml's encoders share ("make_qx_quants"): starts at the scale that puts the weight of largest
 * magnitude on code -n, tries 18 others from 0.9 below to 0.9 above, and keeps that of least weighted squared error, each refitted by least
 * squares.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */
import { GROUP_MAX_EPS, indexOfLargest, nearestInt, TENTH } from './_float32.js';

const { fround } = Math;

/** Scratch for one search at a time; doubles, because reading float32 converts each time. */
const v = /* @__PURE__ */ new Float64Array(32);
const cost = /* @__PURE__ */ new Float64Array(32);
const costV = /* @__PURE__ */ new Float64Array(32);

/** The code of `x` given the reciprocal of the scale: in -n … n - 1. */
function level(x: number, inverse: number, n: number): number {
  const l = nearestInt(fround(inverse * x));
  return l < -n ? -n : l < n ? l : n - 1;
}

/**
 * Chooses a scale for the `count` (at most 32) weights of `x` from `from` on, and writes their codes plus `n` to `codes` from `from` on.
 * @param n half the number of codes
 * @param w what an error of each weight costs, from 0 on
 * @returns the scale, a float32; 0 when the weights are all zero, or nearly; NaN or infinite when the sums overflow
 */
export function searchScale(x: Float32Array, from: number, count: number, n: number, w: Float32Array, codes: Uint8Array): number {
  const max = x[indexOfLargest(x, from, count)];
  if (Math.abs(max) < GROUP_MAX_EPS) {
    codes.fill(0, from, from + count);
    return 0;
  }
  for (let i = 0; i < count; i++) {
    v[i] = x[from + i];
    cost[i] = w[i];
    costV[i] = fround(w[i] * v[i]);
  }
  let scale = 0;
  let best = 0;
  let chosen = 0;
  // step 0 first, as the one to beat; then -9 … -1 and 1 … 9 tenths
  for (let k = 0; k < 19; k++) {
    const step = k === 0 ? 0 : k <= 9 ? k - 10 : k - 9;
    const inverse = fround(-fround(n + fround(TENTH * step)) / max);
    let xl = 0;
    let ll = 0;
    for (let i = 0; i < count; i++) {
      const l = level(v[i], inverse, n);
      xl = fround(xl + fround(costV[i] * l));
      ll = fround(ll + fround(fround(cost[i] * l) * l));
    }
    if (k > 0 && !(ll > 0 && fround(xl * xl) > fround(best * ll))) continue;
    scale = ll ? fround(xl / ll) : 0;
    if (!(ll < Number.POSITIVE_INFINITY)) scale = Number.NaN; // the reference would go on with a scale of 0
    best = fround(scale * xl);
    chosen = inverse;
  }
  for (let i = 0; i < count; i++) codes[from + i] = level(v[i], chosen, n) + n;
  return scale;
}

/** Weights as their own squares: what the search takes when there are no importances. */
export function squares(x: Float32Array, from: number, count: number, out: Float32Array): void {
  for (let i = 0; i < count; i++) out[i] = x[from + i] * x[from + i];
}
