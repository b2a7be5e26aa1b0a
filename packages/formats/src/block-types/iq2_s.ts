/**
 * GGUF block type IQ2_S: 256 weights in 82 bytes, read only. Bytes: d as little-endian fp16; 32 with the low 8 bits of the numbers of the
 * grid's points, one per 8 weights; 32 with their signs; 8 with the upper two bits of four numbers each, and 8 with a scale of 4 bits per
 * 16 weights, lowest first. A weight is `d * (0.5 + scale) / 4 * coordinate`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints, writeSigned } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 82;
const SIGNS = 34;
const HIGH = 66;
const SCALES = 74;

export const iq2_s: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ2_S');
    for (let s = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      const x = (s / BYTES) * 256;
      for (let k = 0; k < 32; k++) {
        const point = src[s + 2 + k] | (((src[s + HIGH + (k >>> 2)] >>> (2 * (k & 3))) & 3) << 8);
        const scale = (d * (0.5 + ((src[s + SCALES + (k >>> 2)] >>> (2 * (k & 2))) & 15))) / 4;
        writeSigned(grid, 8 * point, 8, scale, src[s + SIGNS + k], out, x + 8 * k);
      }
    }
  },
};
