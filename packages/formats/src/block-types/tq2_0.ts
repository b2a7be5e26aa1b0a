/**
 * GGUF block type TQ2_0: 256 weights in 66 bytes, `w = (q - 1) * d`. Bytes: 64 with the codes as in `_crumbs.ts`, d as little-endian fp16.
 *
 * Scale and codes as in ggml's reference (`_ternary.ts`), which takes no importances. Encoders write 0, 1 and 2; a code 3 decodes to 2 d.
 * @module
 */
import { packCrumbs, unpackCrumbs } from './_crumbs.js';
import { readHalf, writeHalf } from './_float32.js';
import { encodeTernary } from './_ternary.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const BYTES = 66;
const D = 64;

const codes = /* @__PURE__ */ new Uint8Array(256);

export const tq2_0: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [D],

  decode(src, out) {
    const q = new Uint8Array(32);
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s + D);
      for (let j = 0; j < 8; j++, x += 32) {
        unpackCrumbs(src, s, j, q);
        for (let l = 0; l < 32; l++) out[x + l] = (q[l] - 1) * d;
      }
    }
  },
};

export const tq2_0Encoder: BlockTypeEncoder = {
  encode(src, out) {
    for (let x = 0, o = 0; x < src.length; x += 256, o += BYTES) {
      writeHalf(encodeTernary(src, x, codes), out, o + D);
      packCrumbs(codes, out, o);
    }
  },
};
