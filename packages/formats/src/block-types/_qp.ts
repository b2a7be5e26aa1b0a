/**
 * Scale search for numbers that are not negative ("make_qp_quants"): the scales and minimums of a super-block, when there are importances.
 * Takes the best of nine scales, then moves single codes, up to five times through, while the weighted squared error gets less.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */
import { GROUP_MAX_EPS, nearestInt, TENTH } from './_float32.js';

const { fround } = Math;

/**
 * Chooses a scale for the numbers `x`, and writes their codes 0 … `most`.
 * @param w what an error of each number costs
 * @returns the scale, a float32; 0 when the numbers are all zero, or nearly; NaN or infinite when the sums overflow
 */
export function searchPositiveScale(x: Float32Array, most: number, w: Float32Array, codes: Uint8Array): number {
  const n = x.length;
  let max = 0;
  for (let i = 0; i < n; i++) max = Math.max(max, x[i]); // NaN if one is
  if (max < GROUP_MAX_EPS) {
    codes.fill(0);
    return 0;
  }
  let inverse = fround(most / max);
  let best = 0;
  // step 0 first, as the one to beat; then -4 … -1 and 1 … 4 tenths
  for (let k = 0; k < 9; k++) {
    const step = k === 0 ? 0 : k <= 4 ? k - 5 : k - 4;
    const tried = fround(fround(fround(TENTH * step) + most) / max);
    const scale = fround(1 / tried);
    let error = 0;
    for (let i = 0; i < n; i++) {
      const l = Math.min(most, nearestInt(fround(tried * x[i])));
      const diff = fround(x[i] - fround(scale * l));
      error = fround(error + fround(fround(w[i] * diff) * diff));
    }
    if (k === 0 || error < best) {
      best = error;
      inverse = tried;
    }
  }
  let xl = 0;
  let ll = 0;
  for (let i = 0; i < n; i++) {
    const l = Math.min(most, nearestInt(fround(inverse * x[i])));
    codes[i] = l;
    xl = fround(xl + fround(fround(w[i] * x[i]) * l));
    ll = fround(ll + fround(fround(w[i] * l) * l));
  }
  for (let sweep = 0; sweep < 5; sweep++) {
    let changed = false;
    for (let i = 0; i < n; i++) {
      const old = codes[i];
      let sx = fround(xl - fround(fround(w[i] * x[i]) * old));
      let sl = fround(ll - fround(fround(w[i] * old) * old));
      if (!(sx > 0 && sl > 0)) continue;
      const l = Math.min(most, nearestInt(fround(fround(x[i] * sl) / sx)));
      if (l === old) continue;
      sx = fround(sx + fround(fround(w[i] * x[i]) * l));
      sl = fround(sl + fround(fround(w[i] * l) * l));
      if (!(fround(fround(sx * sx) * ll) > fround(fround(xl * xl) * sl))) continue;
      codes[i] = l;
      xl = sx;
      ll = sl;
      changed = true;
    }
    if (!changed) break;
  }
  if (!(ll < Number.POSITIVE_INFINITY)) return Number.NaN; // the reference would go on with a scale of 0
  return ll > 0 ? fround(xl / ll) : 0;
}
