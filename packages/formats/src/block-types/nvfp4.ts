/**
 * GGUF block type NVFP4: 64 weights in 36 bytes, 4 sub-blocks of 16, `w = value[q] * d` with the doubled E2M1 values of `_e2m1.ts`. Bytes:
 * 4 scales, then 8 bytes per sub-block, of which byte j holds weight j in its low and weight j + 8 in its high nibble. A scale is FP8 E4M3
 * whose sign does not count, halved because the values are doubled; 0x7f, E4M3's NaN, decodes to zero.
 *
 * Scale as in ggml's reference, which takes no importances: a sixth of the largest magnitude, rounded half up to E4M3; from 256 on, 448.
 * There is no scale per tensor: sub-blocks of weights below 0.0058 become zero, weights beyond 2688 do not fit.
 * @module
 */
import { float32Bits } from '../_bits.js';
import { DOUBLED_E2M1, nearestE2m1 } from './_e2m1.js';
import { bitsOf, largestBits } from './_float32.js';
import { lookUpNibbles } from './_nibbles.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const BYTES = 36;
const LARGEST_SCALE = 0x7e;

/** Halved scales by byte. */
const SCALES = /* @__PURE__ */ Float32Array.from({ length: 256 }, (_, byte) => {
  if (byte === 0x7f) return 0;
  const exponent = (byte >>> 3) & 15;
  const fraction = byte & 7;
  return exponent === 0 ? fraction * 2 ** -10 : (8 + fraction) * 2 ** (exponent - 11);
});

/** Byte of the scale `x` >= 0, a float32. */
function encodeScale(x: number): number {
  if (x < 2 ** -6) return Math.min(7, Math.floor(fround(fround(x * 512) + 0.5)));
  const bits = float32Bits(x);
  const rounded = ((bits >>> 20) - (120 << 3) + ((bits >>> 19) & 1)) | 0; // the carry may reach the exponent
  return rounded >= 15 << 3 ? LARGEST_SCALE : rounded;
}

export const nvfp4: BlockTraits = {
  blockSize: 64,
  blockBytes: BYTES,
  halves: [],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 64)
      for (let k = 0; k < 4; k++) lookUpNibbles(src, s + 4 + 8 * k, 8, DOUBLED_E2M1, SCALES[src[s + k]], out, x + 16 * k);
  },
};

export const nvfp4Encoder: BlockTypeEncoder = {
  largest: 2688, // 6 * 448

  encode(src, out) {
    const bits = bitsOf(src);
    for (let x = 0, o = 0; x < src.length; x += 64, o += BYTES) {
      for (let k = 0; k < 4; k++) {
        const from = x + 16 * k;
        const byte = encodeScale(fround(Math.abs(src[largestBits(bits, from, 16)]) / 6));
        const scale = SCALES[byte];
        out[o + k] = byte;
        for (let j = 0; j < 8; j++)
          out[o + 4 + 8 * k + j] = nearestE2m1(src[from + j], scale) | (nearestE2m1(src[from + j + 8], scale) << 4);
      }
    }
  },
};
