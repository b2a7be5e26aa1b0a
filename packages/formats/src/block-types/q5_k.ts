/**
 * GGUF block type Q5_K: 256 weights in 176 bytes, 8 sub-blocks of 32 with a scale and a minimum each. Bytes: 16 as in `_k-header.ts`; 32
 * with the fifth bits, byte l holding in bit j that of weight l of sub-block j; then the low four bits as in Q4_K.
 *
 * Scales as in ggml's reference (`_k-header.ts`); codes are made again with the fp16 d and dmin. Every step is rounded to float32: bytes
 * equal the reference's. Decoding rounds once.
 * @module
 */
import { readHalf } from './_float32.js';
import { encodeHeader, minCode, scaleCode } from './_k-header.js';
import { packNibbles } from './_nibbles.js';
import type { Tries } from './_qkx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const BYTES = 176;
const HIGH = 16;
const LOW = 48;
const TRIES: Tries = { first: -0.5, step: /* @__PURE__ */ Math.fround(0.1), last: 15 };

const codes = /* @__PURE__ */ new Uint8Array(256);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let x = 0, o = 0; x < src.length; x += 256, o += BYTES) {
    encodeHeader(src, x, importance, 31, TRIES, codes, out, o);
    for (let l = 0; l < 32; l++) {
      let high = 0;
      for (let j = 0; j < 8; j++) high |= (codes[32 * j + l] >>> 4) << j;
      out[o + HIGH + l] = high;
    }
    for (let k = 0; k < 4; k++) packNibbles(codes, 64 * k, 32, out, o + LOW + 32 * k);
  }
}

export const q5_k: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0, 2],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 256) {
      const d = readHalf(src, s);
      const dMin = readHalf(src, s + 2);
      for (let j = 0; j < 8; j++) {
        const scale = d * scaleCode(src, s + 4, j);
        const min = dMin * minCode(src, s + 4, j);
        const low = s + LOW + 32 * (j >>> 1);
        const shift = 4 * (j & 1);
        for (let l = 0; l < 32; l++) {
          const q = ((src[low + l] >>> shift) & 15) | (((src[s + HIGH + l] >>> j) & 1) << 4);
          out[x + 32 * j + l] = scale * q - min;
        }
      }
    }
  },
};

export const q5_kEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
