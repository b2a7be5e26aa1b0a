/**
 * GGUF block type IQ3_S: 256 weights in 110 bytes, read only. Bytes: d as little-endian fp16; 64 with the low 8 bits of the numbers of the
 * grid's points, one per 4 weights; 8 with the ninth bits, 32 with the signs, and 4 with a scale of 4 bits per 32 weights, all lowest
 * first. A weight is `d * (1 + 2 scale) * coordinate`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints, writeSigned } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 110;
const HIGH = 66;
const SIGNS = 74;
const SCALES = 106;

export const iq3_s: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ3_S');
    for (let s = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      const x = (s / BYTES) * 256;
      for (let k = 0; k < 64; k++) {
        const point = src[s + 2 + k] | (((src[s + HIGH + (k >>> 3)] >>> (k & 7)) & 1) << 8);
        const scale = d * (1 + 2 * ((src[s + SCALES + (k >>> 4)] >>> ((k & 8) >>> 1)) & 15));
        const signs = src[s + SIGNS + (k >>> 1)] >>> (4 * (k & 1));
        writeSigned(grid, 4 * point, 4, scale, signs, out, x + 4 * k);
      }
    }
  },
};
