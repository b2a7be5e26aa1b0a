/**
 * GGUF block type Q4_K: 256 weights in 144 bytes, 8 sub-blocks of 32 with a scale and a minimum each. Bytes: 16 as in `_k-header.ts`, then
 * for each two sub-blocks 32 bytes, of which byte l holds weight l of the first in its low and of the second in its high nibble.
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

const BYTES = 144;
const CODES = 16;
const TRIES: Tries = { first: -1, step: /* @__PURE__ */ Math.fround(0.1), last: 20 };

const codes = /* @__PURE__ */ new Uint8Array(256);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let x = 0, o = 0; x < src.length; x += 256, o += BYTES) {
    encodeHeader(src, x, importance, 15, TRIES, codes, out, o);
    for (let k = 0; k < 4; k++) packNibbles(codes, 64 * k, 32, out, o + CODES + 32 * k);
  }
}

export const q4_k: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0, 2],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 256) {
      const d = readHalf(src, s);
      const dMin = readHalf(src, s + 2);
      for (let j = 0; j < 8; j += 2) {
        const scale0 = d * scaleCode(src, s + 4, j);
        const scale1 = d * scaleCode(src, s + 4, j + 1);
        const min0 = dMin * minCode(src, s + 4, j);
        const min1 = dMin * minCode(src, s + 4, j + 1);
        for (let l = 0; l < 32; l++) {
          const b = src[s + CODES + 16 * j + l];
          out[x + 32 * j + l] = scale0 * (b & 15) - min0;
          out[x + 32 * j + 32 + l] = scale1 * (b >>> 4) - min1;
        }
      }
    }
  },
};

export const q4_kEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
