/**
 * GGUF block type Q5_0: 32 weights in 22 bytes, `w = (q - 16) * d`. Bytes: d as little-endian fp16, then the codes as in `_fifth-bit.ts`.
 *
 * Scale as in ggml's reference: d is the weight of largest magnitude (the first such) over -16, so d may be negative and an all-zero block
 * stores -0. Codes are made with the float32 d, not with its fp16. With importances, d and the codes come from a search (`_qx.ts`). Every
 * step is rounded to float32: bytes equal the reference's.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import { fifthBits, packFifthBit } from './_fifth-bit.js';
import { bitsOf, largestBits, meanSquare, weigh, writeHalf } from './_float32.js';
import { searchScale } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;

export const q5_0: BlockTraits = {
  blockSize: 32,
  blockBytes: 22,
  halves: [0],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += 22, x += 32) {
      const d = fp16ToFloat(src[s] | (src[s + 1] << 8));
      const high = fifthBits(src, s + 2);
      for (let j = 0; j < 16; j++) {
        const b = src[s + 6 + j];
        out[x + j] = (((b & 15) | (((high >>> j) & 1) << 4)) - 16) * d;
        out[x + j + 16] = (((b >>> 4) | (((high >>> (j + 16)) & 1) << 4)) - 16) * d;
      }
    }
  },

  affine: {
    bits: 5,

    pack(scale, codes, from, out, to) {
      out[to] = scale;
      out[to + 1] = scale >>> 8;
      packFifthBit(codes, from, out, to + 2);
    },

    unpack(src, from, codes, to) {
      const high = fifthBits(src, from + 2);
      for (let j = 0; j < 16; j++) {
        codes[to + j] = (src[from + 6 + j] & 15) | (((high >>> j) & 1) << 4);
        codes[to + j + 16] = (src[from + 6 + j] >>> 4) | (((high >>> (j + 16)) & 1) << 4);
      }
      return src[from] | (src[from + 1] << 8);
    },
  },
};

export const q5_0Encoder: BlockTypeEncoder = {
  encode(src, out) {
    const codes = new Uint8Array(32);
    const bits = bitsOf(src);
    for (let x = 0, o = 0; x < src.length; x += 32, o += 22) {
      const max = src[largestBits(bits, x, 32)];
      const d = fround(max / -16);
      const id = d ? fround(1 / d) : 0;
      const h = floatToFp16(d);
      out[o] = h;
      out[o + 1] = h >>> 8;
      for (let j = 0; j < 32; j++) codes[j] = Math.min(31, fround(fround(src[x + j] * id) + 16.5) | 0);
      packFifthBit(codes, 0, out, o + 2);
    }
  },

  encodeWeighted(row, importance, out) {
    const codes = new Uint8Array(32);
    const w = new Float32Array(32);
    const s = meanSquare(row, 0, row.length);
    for (let x = 0, o = 0; x < row.length; x += 32, o += 22) {
      weigh(row, importance, x, 32, s, w);
      writeHalf(searchScale(row.subarray(x, x + 32), 0, 32, 16, w, codes), out, o);
      packFifthBit(codes, 0, out, o + 2);
    }
  },
};
