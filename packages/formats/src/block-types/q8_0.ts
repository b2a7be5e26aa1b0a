/**
 * GGUF block type Q8_0: 32 weights in 34 bytes, `w = q * d`. Bytes: d as little-endian fp16, then 32 signed bytes.
 *
 * Scale as in ggml's reference: d is the largest magnitude over 127; codes round half away from zero and are made with the float32 d.
 * Every step is rounded to float32: bytes equal the reference's.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import type { BlockTraits } from './_traits.js';

const { fround } = Math;

export const q8_0: BlockTraits = {
  blockSize: 32,
  blockBytes: 34,
  halves: [0],

  encode(src, out) {
    for (let x = 0, o = 0; x < src.length; x += 32, o += 34) {
      let amax = 0;
      for (let j = 0; j < 32; j++) {
        const a = Math.abs(src[x + j]);
        if (a > amax) amax = a;
      }
      const d = fround(amax / 127);
      const id = d ? fround(1 / d) : 0;
      const h = floatToFp16(d);
      out[o] = h;
      out[o + 1] = h >>> 8;
      for (let j = 0; j < 32; j++) {
        const q = fround(src[x + j] * id);
        out[o + 2 + j] = (q < 0 ? q - 0.5 : q + 0.5) | 0; // half away from zero: a float32 plus a half is exact enough in double
      }
    }
  },

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
