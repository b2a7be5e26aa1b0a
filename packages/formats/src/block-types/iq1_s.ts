/**
 * GGUF block type IQ1_S: 256 weights in 50 bytes, read only. Bytes: d as little-endian fp16; 32 with the low 8 bits of the numbers of the
 * grid's points, one per 8 weights; then a word of 16 bits per 32 weights: four times the upper 3 bits of a number, lowest first, a scale
 * of 3 bits, and a bit that makes the shift of an eighth negative. A weight is `d * (2 scale + 1) * (coordinate ± 1/8)`.
 * @module
 */
import { readHalf } from './_float32.js';
import { gridPoints } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 50;
const WORDS = 34;

export const iq1_s: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    const grid = gridPoints('IQ1');
    for (let s = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      const x = (s / BYTES) * 256;
      for (let k = 0; k < 32; k++) {
        const at = s + WORDS + 2 * (k >>> 2);
        const word = src[at] | (src[at + 1] << 8);
        const point = src[s + 2 + k] | (((word >>> (3 * (k & 3))) & 7) << 8);
        const scale = d * (2 * ((word >>> 12) & 7) + 1);
        const shift = word & 0x8000 ? -0.125 : 0.125;
        for (let j = 0; j < 8; j++) out[x + 8 * k + j] = scale * (grid[8 * point + j] + shift);
      }
    }
  },
};
