/**
 * GGUF block type Q8_0: 32 weights in 34 bytes, `w = q * d`. Bytes: d as little-endian fp16, then 32 signed bytes.
 *
 * Scale as in ggml's reference: d is the largest magnitude over 127; codes round half away from zero and are made with the float32 d.
 * Every step is rounded to float32: bytes equal the reference's.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import { bitsOf, largestBits } from './_float32.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;

export const q8_0: BlockTraits = {
  blockSize: 32,
  blockBytes: 34,
  halves: [0],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += 34, x += 32) {
      const d = fp16ToFloat(src[s] | (src[s + 1] << 8));
      for (let j = 0; j < 32; j++) out[x + j] = ((src[s + 2 + j] << 24) >> 24) * d;
    }
  },

  affine: {
    bits: 8,
    pack(scale, codes, from, out, to) {
      out[to] = scale;
      out[to + 1] = scale >>> 8;
      for (let j = 0; j < 32; j++) out[to + 2 + j] = codes[from + j] - 128; // kept modulo 256: two's complement
    },

    unpack(src, from, codes, to) {
      for (let j = 0; j < 32; j++) codes[to + j] = src[from + 2 + j] + 128;
      return src[from] | (src[from + 1] << 8);
    },
  },
};

export const q8_0Encoder: BlockTypeEncoder = {
  encode(src, out) {
    const bits = bitsOf(src);
    for (let x = 0, o = 0; x < src.length; x += 32, o += 34) {
      const d = fround(Math.abs(src[largestBits(bits, x, 32)]) / 127);
      const id = d ? fround(1 / d) : 0;
      const h = floatToFp16(d);
      out[o] = h;
      out[o + 1] = h >>> 8;
      for (let j = 0; j < 32; j++) {
        // half away from zero, without a branch on the sign: halves, one more away from zero, then whole steps towards zero
        const halves = (2 * fround(src[x + j] * id)) | 0;
        const more = halves + ((halves >> 31) | 1);
        out[o + 2 + j] = (more + (more >>> 31)) >> 1;
      }
    }
  },
};
