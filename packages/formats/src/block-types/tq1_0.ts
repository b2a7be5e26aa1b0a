/**
 * GGUF block type TQ1_0: 256 weights in 54 bytes, `w = (q - 1) * d` with q 0, 1 or 2. Bytes: 48 with five codes each, 4 with four codes
 * each, d as little-endian fp16. A byte is the fraction 0.q0 q1 q2 q3 q4 in base 3, times 256, rounded up; multiplying it by 3 brings the
 * next code over the point. Bytes 0 to 31 hold weights m + 32 n of the first 160 (n = 0 … 4), bytes 32 to 47 weights 160 + m + 16 n, the
 * last four weights 240 + m + 4 n (n = 0 … 3).
 *
 * Scale and codes as in ggml's reference (`_ternary.ts`), which takes no importances.
 * @module
 */
import { readHalf, writeHalf } from './_float32.js';
import { encodeTernary } from './_ternary.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const BYTES = 54;
const D = 52;

/** Runs of bytes: first byte, number of bytes, first weight, codes per byte. */
const RUNS = [
  [0, 32, 0, 5],
  [32, 16, 160, 5],
  [48, 4, 240, 4],
] as const;

const codes = /* @__PURE__ */ new Uint8Array(256);

export const tq1_0: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [D],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 256) {
      const d = readHalf(src, s + D);
      for (const [at, count, first, digits] of RUNS) {
        for (let m = 0; m < count; m++) {
          let q = src[s + at + m];
          for (let n = 0; n < digits; n++) {
            out[x + first + m + count * n] = (((q * 3) >>> 8) - 1) * d;
            q = (q * 3) & 255;
          }
        }
      }
    }
  },
};

export const tq1_0Encoder: BlockTypeEncoder = {
  encode(src, out) {
    for (let x = 0, o = 0; x < src.length; x += 256, o += BYTES) {
      writeHalf(encodeTernary(src, x, codes), out, o + D);
      for (const [at, count, first, digits] of RUNS) {
        for (let m = 0; m < count; m++) {
          let q = 0;
          for (let n = 0; n < 5; n++) q = 3 * q + (n < digits ? codes[first + m + count * n] : 0);
          out[o + at + m] = Math.ceil((q * 256) / 243);
        }
      }
    }
  },
};
