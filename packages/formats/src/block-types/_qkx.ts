/**
 * Search of a scale and a minimum that ggml's encoders share ("make_qkx2_quants", "make_qkx3_quants"): starts at the range of the weights,
 * tries other scales, each with its minimum refitted by weighted least squares, and keeps that of least weighted error. The minimum is at
 * most 0. A better minimum, once found, moves the scales that are tried after it, as in the reference.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */
import { nearestInt } from './_float32.js';

const { fround, abs } = Math;

/** Scales that are tried: `(first + step * k + largest code) / range` for k = 0 … `last`. */
export interface Tries {
  readonly first: number;
  readonly step: number;
  readonly last: number;
  /** Error as weighted magnitudes instead of squares. */
  readonly absolute?: boolean;
}

/** What all types with a minimum try when there are importances. */
export const WEIGHTED_TRIES: Tries = { first: /* @__PURE__ */ fround(-0.9), step: /* @__PURE__ */ fround(0.05), last: 36 };

/** Scratch for one search at a time; doubles, because reading float32 converts each time. */
const v = /* @__PURE__ */ new Float64Array(32);
const cost = /* @__PURE__ */ new Float64Array(32);
const tried = /* @__PURE__ */ new Float64Array(32);

/** The code of `x`, as far above the minimum, given the reciprocal of the scale. */
function level(x: number, inverse: number, most: number): number {
  return Math.max(0, Math.min(most, nearestInt(fround(inverse * x))));
}

/**
 * Chooses scale and minimum for the `count` (at most 32) weights of `x` from `from` on, and writes their codes 0 … `most` to `codes` from
 * `from` on, the scale to `scales[at]` and the negated minimum to `mins[at]`. The scale is 0 when the weights are all equal, or nearly
 * zero; it is NaN when the sums overflow.
 * @param w what an error of each weight costs, from 0 on
 */
export function searchScaleAndMin(
  x: Float32Array,
  from: number,
  count: number,
  most: number,
  w: Float32Array,
  { first, step, last, absolute = false }: Tries,
  codes: Uint8Array,
  scales: Float32Array,
  mins: Float32Array,
  at: number,
): void {
  let min = x[from];
  let max = min;
  let sw = w[0];
  let sx = fround(sw * min);
  for (let i = 0; i < count; i++) {
    v[i] = x[from + i];
    cost[i] = w[i];
    if (v[i] < min) min = v[i];
    if (v[i] > max) max = v[i];
    if (i === 0) continue;
    sw = fround(sw + cost[i]);
    sx = fround(sx + fround(cost[i] * v[i]));
  }
  if (min > 0) min = 0;
  if (!(fround(fround(sw * most) * fround(sw * Math.max(most, max, -min))) < Number.POSITIVE_INFINITY)) {
    codes.fill(0, from, from + count);
    scales[at] = Number.NaN; // sums would overflow, whereupon the reference keeps the range, whatever errors cost
    mins[at] = -min;
    return;
  }
  let inverse = fround(most / fround(max - min));
  if (max === min || inverse === Number.POSITIVE_INFINITY) {
    codes.fill(0, from, from + count);
    scales[at] = 0;
    mins[at] = -min;
    return;
  }
  let scale = fround(1 / inverse);
  let best = 0;
  for (let i = 0; i < count; i++) {
    const l = level(fround(v[i] - min), inverse, most);
    codes[from + i] = l;
    const diff = fround(fround(fround(scale * l) + min) - v[i]);
    best = fround(best + fround(cost[i] * (absolute ? abs(diff) : fround(diff * diff))));
  }
  for (let k = 0; k <= last; k++) {
    inverse = fround(fround(fround(first + fround(step * k)) + most) / fround(max - min));
    let sl = 0;
    let sll = 0;
    let sxl = 0;
    for (let i = 0; i < count; i++) {
      const l = level(fround(v[i] - min), inverse, most);
      tried[i] = l;
      const wl = fround(cost[i] * l);
      sl = fround(sl + wl);
      sll = fround(sll + fround(wl * l));
      sxl = fround(sxl + fround(wl * v[i]));
    }
    const d = fround(fround(sw * sll) - fround(sl * sl));
    if (!(d > 0)) continue;
    let newScale = fround(fround(fround(sw * sxl) - fround(sx * sl)) / d);
    let newMin = fround(fround(fround(sll * sx) - fround(sl * sxl)) / d);
    if (newMin > 0) {
      newMin = 0;
      newScale = fround(sxl / sll);
    }
    let error = 0;
    for (let i = 0; i < count; i++) {
      const diff = fround(fround(fround(newScale * tried[i]) + newMin) - v[i]);
      error = fround(error + fround(cost[i] * (absolute ? abs(diff) : fround(diff * diff))));
    }
    if (!(error < best)) continue;
    for (let i = 0; i < count; i++) codes[from + i] = tried[i];
    best = error;
    scale = newScale;
    min = newMin;
  }
  scales[at] = scale;
  mins[at] = -min;
}
