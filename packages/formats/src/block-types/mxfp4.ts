/**
 * GGUF block type MXFP4: 32 weights in 17 bytes, `w = value[q] * 2^(e - 128)` with the doubled E2M1 values of `_e2m1.ts`. Bytes: e, an E8M0
 * scale (255, its NaN, is refused), then 16 bytes of which byte j holds weight j in its low and weight j + 16 in its high nibble.
 *
 * Scale as in ggml's reference, which takes no importances: e is the exponent of the largest magnitude, less 2, so that the largest weights
 * of a block (from 6 to 8 times the scale) saturate. It is taken from a logarithm rounded to float32, which may round up to the next power
 * of two. Below 2^-125, where the reference's e wraps around to enormous scales, e stays 0.
 * @module
 */

import { DOUBLED_E2M1, nearestE2m1 } from './_e2m1.js';
import { bitsOf, largestBits } from './_float32.js';
import { lookUpNibbles } from './_nibbles.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const BYTES = 17;

export const mxfp4: BlockTraits = {
  blockSize: 32,
  blockBytes: BYTES,
  halves: [],
  hasBadScale: (src, from) => src[from] === 255,

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 32) lookUpNibbles(src, s + 1, 16, DOUBLED_E2M1, 2 ** (src[s] - 128), out, x);
  },
};

export const mxfp4Encoder: BlockTypeEncoder = {
  largest: 1.5 * 2 ** 127, // the largest finite value; rounding could take weights beyond it to infinity

  encode(src, out) {
    const bits = bitsOf(src);
    for (let x = 0, o = 0; x < src.length; x += 32, o += BYTES) {
      const max = Math.abs(src[largestBits(bits, x, 32)]);
      const e = max > 0 ? Math.max(0, Math.floor(fround(Math.log2(max))) + 125) : 0;
      const scale = 2 ** (e - 128);
      out[o] = e;
      for (let j = 0; j < 16; j++) out[o + 1 + j] = nearestE2m1(src[x + j], scale) | (nearestE2m1(src[x + j + 16], scale) << 4);
    }
  },
};
