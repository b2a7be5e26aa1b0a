/**
 * What TQ1_0 and TQ2_0 share: 256 weights, `w = (q - 1) * d` with q 0, 1 or 2, and d the largest magnitude. Codes round half away from
 * zero, as in ggml's reference, and are made with the float32 d.
 * @module
 */
import { indexOfLargest } from './_float32.js';

const { fround } = Math;

/** Writes the codes of 256 weights from `from` on to `codes`; returns d. */
export function encodeTernary(x: Float32Array, from: number, codes: Uint8Array): number {
  const d = Math.abs(x[indexOfLargest(x, from, 256)]);
  const inverse = d ? fround(1 / d) : 0;
  if (inverse === Number.POSITIVE_INFINITY)
    codes.fill(1); // far below the smallest fp16 number: d is stored as 0
  else
    for (let i = 0; i < 256; i++) {
      const q = fround(x[from + i] * inverse);
      codes[i] = q >= 0.5 ? 2 : q <= -0.5 ? 0 : 1;
    }
  return d;
}
