/**
 * GGUF block type IQ2_XS: 256 weights in 74 bytes, read only. Bytes: d as little-endian fp16; 32 words of 16 bits, one per 8 weights: the
 * number of a point of the grid in 9 bits, signs in 7; then 8 bytes with a scale of 4 bits per 16 weights, lowest first. A weight is
 * `d * (0.5 + scale) / 4 * coordinate`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints, signsOf, writeSigned } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 74;
const SCALES = 66;

export const iq2_xs: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ2_XS');
    for (let s = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      const x = (s / BYTES) * 256;
      for (let k = 0; k < 32; k++) {
        const word = src[s + 2 + 2 * k] | (src[s + 3 + 2 * k] << 8);
        const scale = (d * (0.5 + ((src[s + SCALES + (k >>> 2)] >>> (2 * (k & 2))) & 15))) / 4;
        writeSigned(grid, 8 * (word & 511), 8, scale, signsOf(word >>> 9), out, x + 8 * k);
      }
    }
  },
};
