/**
 * 32 codes of 5 bits as Q5_0 and Q5_1 store them in 20 bytes: the fifth bits as a little-endian 32-bit word, bit j of weight j; then 16
 * bytes of which byte j holds the low nibbles of weights j (low) and j + 16 (high).
 * @module
 */

/** Writes the 32 codes at `from` to byte `to`. */
export function packFifthBit(codes: Uint8Array, from: number, out: Uint8Array, to: number): void {
  let high = 0;
  for (let j = 0; j < 32; j++) high |= ((codes[from + j] >>> 4) & 1) << j;
  for (let k = 0; k < 4; k++) out[to + k] = high >>> (8 * k);
  for (let j = 0; j < 16; j++) out[to + 4 + j] = (codes[from + j] & 15) | ((codes[from + j + 16] & 15) << 4);
}

/** Bit j is the fifth bit of weight j; `from` is where the 20 bytes begin. */
export function fifthBits(src: Uint8Array, from: number): number {
  return src[from] | (src[from + 1] << 8) | (src[from + 2] << 16) | (src[from + 3] << 24);
}
