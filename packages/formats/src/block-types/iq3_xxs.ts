/**
 * GGUF block type IQ3_XXS: 256 weights in 98 bytes, read only. Bytes: d as little-endian fp16; 64 with the numbers of the grid's points,
 * one per 4 weights; then a 32-bit word per 32 weights, with four times seven bits of signs, lowest first, and a scale of 4 bits on top. A
 * weight is `d * (0.5 + scale) / 2 * coordinate`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints, signsOf, writeSigned } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 98;
const WORDS = 66;

export const iq3_xxs: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ3_XXS');
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      for (let k = 0; k < 8; k++) {
        const at = s + WORDS + 4 * k;
        const word = src[at] | (src[at + 1] << 8) | (src[at + 2] << 16) | (src[at + 3] << 24);
        const scale = (d * (0.5 + (word >>> 28))) / 2;
        for (let l = 0; l < 4; l++, x += 8) {
          const signs = signsOf((word >>> (7 * l)) & 127);
          const from = s + 2 + 8 * k + 2 * l;
          writeSigned(grid, 4 * src[from], 4, scale, signs, out, x);
          writeSigned(grid, 4 * src[from + 1], 4, scale, signs >>> 4, out, x + 4);
        }
      }
    }
  },
};
