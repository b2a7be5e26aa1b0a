/**
 * 256 codes of 2 bits in 64 bytes, as Q2_K, Q3_K and TQ2_0 store them: each half of 128 codes takes 32 bytes, of which byte l holds codes
 * l, l + 32, l + 64 and l + 96, lowest bits first.
 * @module
 */

/** Packs the low two bits of 256 codes. */
export function packCrumbs(codes: Uint8Array, out: Uint8Array, to: number): void {
  for (let half = 0; half < 2; half++) {
    const c = 128 * half;
    for (let l = 0; l < 32; l++) {
      out[to + 32 * half + l] =
        (codes[c + l] & 3) | ((codes[c + l + 32] & 3) << 2) | ((codes[c + l + 64] & 3) << 4) | ((codes[c + l + 96] & 3) << 6);
    }
  }
}

/** Reads the 32 codes of one eighth (0 … 7) into `out`. */
export function unpackCrumbs(src: Uint8Array, from: number, eighth: number, out: Uint8Array): void {
  const base = from + 32 * (eighth >>> 2);
  const shift = 2 * (eighth & 3);
  for (let l = 0; l < 32; l++) out[l] = (src[base + l] >>> shift) & 3;
}
