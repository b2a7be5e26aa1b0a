/**
 * Codes of 4 bits, two per byte, as the GGUF types store them: byte j of a run holds code j in its low and code j + `half` in its high
 * nibble.
 * @module
 */

/** Packs the `2 * half` codes at `from` into `half` bytes at `to`. Higher bits of the codes are ignored. */
export function packNibbles(codes: Uint8Array, from: number, half: number, out: Uint8Array, to: number): void {
  for (let j = 0; j < half; j++) out[to + j] = (codes[from + j] & 15) | ((codes[from + j + half] & 15) << 4);
}

/** Looks the `2 * half` codes of `half` bytes at `from` up in a table, and multiplies by `scale`. */
export function lookUpNibbles(
  src: Uint8Array,
  from: number,
  half: number,
  table: ArrayLike<number>,
  scale: number,
  out: Float32Array,
  to: number,
): void {
  for (let j = 0; j < half; j++) {
    const b = src[from + j];
    out[to + j] = scale * table[b & 15];
    out[to + j + half] = scale * table[b >>> 4];
  }
}
