/**
 * The scale search that ggml's k-quants with symmetric codes share ("make_qx_quants"), without an importance matrix: weights x are
 * weighted by x². Starts at the scale that puts the weight of largest magnitude on code -n, tries 18 others from 0.9 below to 0.9 above,
 * and keeps that of least weighted squared error, each refitted by least squares.
 *
 * Every step is rounded to float32, products from left to right: results equal the reference's, bit for bit.
 * @module
 */

const { fround } = Math;

/** Adding it to a float32 of magnitude below 2^22 rounds that to an integer, half to even. */
const MAGIC = 12582912;
const TENTH = fround(0.1);
/** Blocks smaller than this count as zero. */
export const GROUP_MAX_EPS = fround(1e-15);

/** A float32 of magnitude below 2^22, rounded to the nearest integer, half to even. */
export function nearestInt(x: number): number {
  return fround(x + MAGIC) - MAGIC;
}

/** The code of `x` given the reciprocal of the scale: in -n … n - 1. */
function level(x: number, inverse: number, n: number): number {
  return Math.max(-n, Math.min(n - 1, nearestInt(fround(inverse * x))));
}

/**
 * Chooses a scale for the `count` weights of `src` from `from` on, and writes their codes plus `n` to `codes` from `from` on.
 * @param n half the number of codes
 * @returns the scale, a float32; 0 when the weights are all zero, or nearly; NaN or infinite when the sums overflow
 */
export function searchScale(src: Float32Array, from: number, count: number, n: number, codes: Uint8Array): number {
  const end = from + count;
  let amax = 0;
  let max = 0;
  for (let i = from; i < end; i++) {
    const a = Math.abs(src[i]);
    if (a > amax) {
      amax = a;
      max = src[i];
    }
  }
  if (amax < GROUP_MAX_EPS) {
    codes.fill(0, from, end);
    return 0;
  }
  const w = new Float32Array(count);
  const wx = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    w[i] = src[from + i] * src[from + i];
    wx[i] = w[i] * src[from + i];
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
      const l = level(src[from + i], inverse, n);
      xl = fround(xl + fround(wx[i] * l));
      ll = fround(ll + fround(fround(w[i] * l) * l));
    }
    if (k > 0 && !(ll > 0 && fround(xl * xl) > fround(best * ll))) continue;
    scale = ll ? fround(xl / ll) : 0;
    best = fround(scale * xl);
    chosen = inverse;
  }
  for (let i = from; i < end; i++) codes[i] = level(src[i], chosen, n) + n;
  return scale;
}
