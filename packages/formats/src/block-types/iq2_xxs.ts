/**
 * GGUF block type IQ2_XXS: 256 weights in 66 bytes, read only. Bytes: d as little-endian fp16; then 8 per 32 weights: the numbers of four
 * points of the grid, and a 32-bit word with four times seven bits of signs, lowest first, and a scale of 4 bits on top. A weight is
 * `d * (0.5 + scale) / 4 * coordinate`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints, signsOf, writeSigned } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 66;

export const iq2_xxs: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ2_XXS');
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      for (let from = s + 2; from < s + BYTES; from += 8) {
        const word = src[from + 4] | (src[from + 5] << 8) | (src[from + 6] << 16) | (src[from + 7] << 24);
        const scale = (d * (0.5 + (word >>> 28))) / 4;
        for (let l = 0; l < 4; l++, x += 8) writeSigned(grid, 8 * src[from + l], 8, scale, signsOf((word >>> (7 * l)) & 127), out, x);
      }
    }
  },
};
