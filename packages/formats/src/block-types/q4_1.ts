/**
 * GGUF block type Q4_1: 32 weights in 20 bytes, `w = q * d + m`. Bytes: d and m as little-endian fp16, then 16 bytes of which byte j holds
 * weight j in its low and weight j + 16 in its high nibble.
 *
 * Scale as in ggml's reference: m is the smallest weight, d the range over 15. Codes are made with the float32 d and m, not with their
 * fp16. With importances, d, m and the codes come from a search (`_qkx.ts`). Every step is rounded to float32: bytes equal the reference's.
 * Decoding rounds once.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import { meanSquare, weigh, writeHalf } from './_float32.js';
import { packNibbles } from './_nibbles.js';
import { searchScaleAndMin, WEIGHTED_TRIES } from './_qkx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;

export const q4_1: BlockTraits = {
  blockSize: 32,
  blockBytes: 20,
  halves: [0, 2],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += 20, x += 32) {
      const d = fp16ToFloat(src[s] | (src[s + 1] << 8));
      const m = fp16ToFloat(src[s + 2] | (src[s + 3] << 8));
      for (let j = 0; j < 16; j++) {
        const b = src[s + 4 + j];
        out[x + j] = (b & 15) * d + m;
        out[x + j + 16] = (b >>> 4) * d + m;
      }
    }
  },
};

export const q4_1Encoder: BlockTypeEncoder = {
  encode(src, out) {
    for (let x = 0, o = 0; x < src.length; x += 32, o += 20) {
      let min = src[x];
      let max = src[x];
      for (let j = 1; j < 32; j++) {
        const v = src[x + j];
        if (v < min) min = v;
        if (v > max) max = v;
      }
      const d = fround(fround(max - min) / 15);
      const id = d ? fround(1 / d) : 0;
      const hd = floatToFp16(d);
      const hm = floatToFp16(min);
      out[o] = hd;
      out[o + 1] = hd >>> 8;
      out[o + 2] = hm;
      out[o + 3] = hm >>> 8;
      for (let j = 0; j < 16; j++) {
        const lo = fround(fround(fround(src[x + j] - min) * id) + 0.5) | 0;
        const hi = fround(fround(fround(src[x + j + 16] - min) * id) + 0.5) | 0;
        out[o + 4 + j] = Math.min(15, lo) | (Math.min(15, hi) << 4);
      }
    }
  },

  encodeWeighted(row, importance, out) {
    const codes = new Uint8Array(32);
    const w = new Float32Array(32);
    const scale = new Float32Array(1);
    const min = new Float32Array(1);
    const s = meanSquare(row, 0, row.length);
    for (let x = 0, o = 0; x < row.length; x += 32, o += 20) {
      weigh(row, importance, x, 32, s, w);
      searchScaleAndMin(row.subarray(x, x + 32), 0, 32, 15, w, WEIGHTED_TRIES, codes, scale, min, 0);
      writeHalf(scale[0], out, o);
      writeHalf(-min[0], out, o + 2);
      packNibbles(codes, 0, 16, out, o + 4);
    }
  },
};
