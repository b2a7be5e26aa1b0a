/**
 * The 16 values that IQ4_NL and IQ4_XS look up, and the search of a scale for them ("quantize_row_iq4_nl_impl"): starts at the scale that
 * puts the weight of largest magnitude on the first value, tries 15 others, and keeps that of least weighted squared error, each refitted
 * by least squares.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */
import { GROUP_MAX_EPS, indexOfLargest } from './_float32.js';

const { fround } = Math;

export const IQ4_VALUES: readonly number[] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** Index of the value nearest to n / 2, by n + 256. Midpoints between values are multiples of a half; there, the higher value wins. */
const NEAREST = /* @__PURE__ */ Uint8Array.from({ length: 512 }, (_, n) => {
  let index = 0;
  while (index < 15 && n - 256 >= IQ4_VALUES[index] + IQ4_VALUES[index + 1]) index++;
  return index;
});

/** Index of the value nearest to `x`. */
export function nearestIq4(x: number): number {
  return NEAREST[Math.max(0, Math.min(511, Math.floor(2 * x) + 256))];
}

/**
 * Chooses a scale for 32 weights from `from` on.
 * @param w what an error of each weight costs, from 0 on
 * @returns the scale, a float32; 0 when the weights are all zero, or nearly; NaN or infinite when the sums overflow
 */
export function searchIq4Scale(x: Float32Array, from: number, w: Float32Array): number {
  const max = x[indexOfLargest(x, from, 32)];
  if (Math.abs(max) < GROUP_MAX_EPS) return 0;
  const first = IQ4_VALUES[0];
  let scale = 0;
  let best = 0;
  for (let k = -8; k <= 7; k++) {
    const inverse = k === -8 ? fround(1 / fround(-max / first)) : fround((k + first) / max);
    let qx = 0;
    let qq = 0;
    for (let j = 0; j < 32; j++) {
      const v = x[from + j];
      const q = IQ4_VALUES[nearestIq4(fround(inverse * v))];
      const wq = fround(w[j] * q);
      qx = fround(qx + fround(wq * v));
      qq = fround(qq + fround(wq * q));
    }
    if (k > -8 && !(qq > 0 && fround(qx * qx) > fround(best * qq))) continue;
    scale = qq > 0 ? fround(qx / qq) : 0;
    if (!(qq < Number.POSITIVE_INFINITY)) scale = Number.NaN; // the reference would go on with a scale of 0
    best = fround(scale * qx);
  }
  return scale;
}
