/**
 * GGUF block type IQ1_M: 256 weights in 56 bytes, read only. Bytes: 32 with the low 8 bits of the numbers of the grid's points, one per 8
 * weights; 16 with, per point, the upper 3 bits and a bit that makes the shift of an eighth negative; then four words of 16 bits with four
 * scales of 3 bits, one per 16 weights, lowest first, and on top a quarter of the fp16 number d, lowest first. A weight is
 * `d * (2 scale + 1) * (coordinate ± 1/8)`.
 * @module
 */
import { fp16ToFloat } from '../fp16.js';
import { gridPoints } from './_iq-grids.js';
import type { BlockTraits } from './_traits.js';

const BYTES = 56;
const HIGH = 32;
const SCALES = 48;

/** The bits of the fp16 number of the block at `from`. */
function scaleBits(src: Uint8Array, from: number): number {
  let bits = 0;
  for (let k = 0; k < 4; k++) bits |= (src[from + SCALES + 2 * k + 1] >>> 4) << (4 * k);
  return bits;
}

export const iq1_m: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [],
  hasBadScale: (src, from) => (scaleBits(src, from) & 0x7c00) === 0x7c00,

  decode(src, out) {
    const grid = gridPoints('IQ1');
    for (let s = 0; s < src.length; s += BYTES) {
      const d = fp16ToFloat(scaleBits(src, s));
      const x = (s / BYTES) * 256;
      for (let k = 0; k < 32; k++) {
        const high = (src[s + HIGH + (k >>> 1)] >>> (4 * (k & 1))) & 15;
        const point = src[s + k] | ((high & 7) << 8);
        const at = s + SCALES + 2 * (k >>> 3);
        const word = src[at] | (src[at + 1] << 8);
        const scale = d * (2 * ((word >>> (3 * ((k >>> 1) & 3))) & 7) + 1);
        const shift = high & 8 ? -0.125 : 0.125;
        for (let j = 0; j < 8; j++) out[x + 8 * k + j] = scale * (grid[8 * point + j] + shift);
      }
    }
  },
};
