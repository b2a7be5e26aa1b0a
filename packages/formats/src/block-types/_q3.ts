/**
 * Scale search of ggml's Q3_K without importances ("make_q3_quants"): starts at the scale that puts the weight of largest magnitude on
 * code -4, then moves single codes, up to five times through, while the squared error, weighted by x², gets less.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */
import { GROUP_MAX_EPS, indexOfLargest, nearestInt } from './_float32.js';

const { fround } = Math;
const COUNT = 16;

const w = /* @__PURE__ */ new Float32Array(COUNT);
const wx = /* @__PURE__ */ new Float32Array(COUNT);
const level = /* @__PURE__ */ new Int8Array(COUNT);

const clamp = (l: number) => Math.max(-4, Math.min(3, l));

/**
 * Chooses a scale for 16 weights from `from` on, and writes their codes plus 4 to `codes` from `from` on.
 * @returns the scale, a float32; 0 when the weights are all zero, or nearly; NaN or infinite when the sums overflow
 */
export function ascendScale(x: Float32Array, from: number, codes: Uint8Array): number {
  const max = x[indexOfLargest(x, from, COUNT)];
  if (Math.abs(max) < GROUP_MAX_EPS) {
    codes.fill(0, from, from + COUNT);
    return 0;
  }
  const inverse = fround(-4 / max);
  let xl = 0;
  let ll = 0;
  for (let i = 0; i < COUNT; i++) {
    const v = x[from + i];
    const l = clamp(nearestInt(fround(inverse * v)));
    w[i] = v * v;
    wx[i] = w[i] * v;
    level[i] = l;
    xl = fround(xl + fround(wx[i] * l));
    ll = fround(ll + fround(fround(w[i] * l) * l));
  }
  for (let sweep = 0; sweep < 5; sweep++) {
    let changed = false;
    for (let i = 0; i < COUNT; i++) {
      const old = level[i];
      let sx = fround(xl - fround(wx[i] * old));
      if (!(sx > 0)) continue;
      let sl = fround(ll - fround(fround(w[i] * old) * old));
      const l = clamp(nearestInt(fround(fround(x[from + i] * sl) / sx)));
      if (l === old) continue;
      sx = fround(sx + fround(wx[i] * l));
      sl = fround(sl + fround(fround(w[i] * l) * l));
      if (!(sl > 0 && fround(fround(sx * sx) * ll) > fround(fround(xl * xl) * sl))) continue;
      level[i] = l;
      xl = sx;
      ll = sl;
      changed = true;
    }
    if (!changed) break;
  }
  for (let i = 0; i < COUNT; i++) codes[from + i] = level[i] + 4;
  if (ll === Number.POSITIVE_INFINITY) return Number.NaN; // the reference would go on with a scale of 0
  return ll > 0 ? fround(xl / ll) : 0;
}
