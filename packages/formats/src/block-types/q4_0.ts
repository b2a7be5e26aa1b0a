/**
 * GGUF block type Q4_0: 32 weights in 18 bytes, `w = (q - 8) * d`. Bytes: d as little-endian fp16, then 16 bytes of which byte j holds
 * weight j in its low and weight j + 16 in its high nibble.
 *
 * Scale as in ggml's reference: d is the weight of largest magnitude (the first such) over -8, so d may be negative and an all-zero block
 * stores -0. Codes are made with the float32 d, not with its fp16. With importances, d and the codes come from a search (`_qx.ts`). Every
 * step is rounded to float32: bytes equal the reference's.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import { bitsOf, largestBits, meanSquare, weigh, writeHalf } from './_float32.js';
import { packNibbles } from './_nibbles.js';
import { searchScale } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;

export const q4_0: BlockTraits = {
  blockSize: 32,
  blockBytes: 18,
  halves: [0],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += 18, x += 32) {
      const d = fp16ToFloat(src[s] | (src[s + 1] << 8));
      for (let j = 0; j < 16; j++) {
        const b = src[s + 2 + j];
        out[x + j] = ((b & 15) - 8) * d;
        out[x + j + 16] = ((b >>> 4) - 8) * d;
      }
    }
  },

  affine: {
    bits: 4,
    pack(scale, codes, from, out, to) {
      out[to] = scale;
      out[to + 1] = scale >>> 8;
      for (let j = 0; j < 16; j++) out[to + 2 + j] = codes[from + j] | (codes[from + j + 16] << 4);
    },

    unpack(src, from, codes, to) {
      for (let j = 0; j < 16; j++) {
        codes[to + j] = src[from + 2 + j] & 15;
        codes[to + j + 16] = src[from + 2 + j] >>> 4;
      }
      return src[from] | (src[from + 1] << 8);
    },
  },
};

export const q4_0Encoder: BlockTypeEncoder = {
  encode(src, out) {
    const bits = bitsOf(src);
    for (let x = 0, o = 0; x < src.length; x += 32, o += 18) {
      const max = src[largestBits(bits, x, 32)];
      const d = fround(max / -8);
      const id = d ? fround(1 / d) : 0;
      const h = floatToFp16(d);
      out[o] = h;
      out[o + 1] = h >>> 8;
      for (let j = 0; j < 16; j++) {
        const lo = fround(fround(src[x + j] * id) + 8.5) | 0;
        const hi = fround(fround(src[x + j + 16] * id) + 8.5) | 0;
        out[o + 2 + j] = Math.min(15, lo) | (Math.min(15, hi) << 4);
      }
    }
  },

  encodeWeighted(row, importance, out) {
    const codes = new Uint8Array(32);
    const w = new Float32Array(32);
    const s = meanSquare(row, 0, row.length);
    for (let x = 0, o = 0; x < row.length; x += 32, o += 18) {
      weigh(row, importance, x, 32, s, w);
      writeHalf(searchScale(row.subarray(x, x + 32), 0, 32, 8, w, codes), out, o);
      packNibbles(codes, 0, 16, out, o + 2);
    }
  },
};
