/**
 * GGUF block type Q6_K: 256 weights in 210 bytes, 16 sub-blocks of 16, `w = (q - 32) * scale[sub-block] * d`. Bytes: 128 with the low
 * nibbles, 64 with the upper two bits, 16 signed scales, d as little-endian fp16. Each half of 128 weights takes 64 low bytes and 32 upper
 * ones: low byte l holds weights l and l + 64, low byte l + 32 weights l + 32 and l + 96, upper byte l all four, lowest first.
 *
 * Scales as in ggml's reference: searched per sub-block (`_qx.ts`), where an error costs the weight's square or the importance of its
 * column, then rounded to multiples of d = largest / -128; codes are made again with the rounded scale and the fp16 d. Every step is
 * rounded to float32: bytes equal the reference's. Decoding rounds once.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';
import { GROUP_MAX_EPS, indexOfLargest, nearestInt, writeHalf } from './_float32.js';
import { searchScale, squares } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const SCALES = 192;
const D = 208;

/** Scratch for one block at a time. */
const codes = /* @__PURE__ */ new Uint8Array(256);
const w = /* @__PURE__ */ new Float32Array(16);
const scales = /* @__PURE__ */ new Float32Array(16);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let x = 0, o = 0; x < src.length; x += 256, o += 210) {
    const d = encodeBlock(src.subarray(x, x + 256), importance?.subarray(x), out.subarray(o, o + 210));
    writeHalf(d, out, o + D);
  }
}

export const q6_k: BlockTraits = {
  blockSize: 256,
  blockBytes: 210,
  halves: [D],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += 210, x += 256) {
      const d = fp16ToFloat(src[s + D] | (src[s + D + 1] << 8));
      for (let half = 0; half < 2; half++) {
        const low = s + 64 * half;
        const high = s + 128 + 32 * half;
        const to = x + 128 * half;
        for (let part = 0; part < 2; part++) {
          const sc = s + SCALES + 8 * half + part;
          const d0 = d * ((src[sc] << 24) >> 24);
          const d1 = d * ((src[sc + 2] << 24) >> 24);
          const d2 = d * ((src[sc + 4] << 24) >> 24);
          const d3 = d * ((src[sc + 6] << 24) >> 24);
          for (let l = 16 * part; l < 16 * part + 16; l++) {
            const a = src[low + l];
            const b = src[low + l + 32];
            const h = src[high + l];
            out[to + l] = d0 * (((a & 15) | ((h & 3) << 4)) - 32);
            out[to + l + 32] = d1 * (((b & 15) | ((h & 12) << 2)) - 32);
            out[to + l + 64] = d2 * (((a >>> 4) | (h & 48)) - 32);
            out[to + l + 96] = d3 * (((b >>> 4) | ((h & 192) >>> 2)) - 32);
          }
        }
      }
    }
  },
};

export const q6_kEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};

/** Writes the block of 256 weights, and returns its d. */
function encodeBlock(x: Float32Array, importance: Float32Array | undefined, out: Uint8Array): number {
  for (let j = 0; j < 16; j++) {
    if (importance) w.set(importance.subarray(16 * j, 16 * (j + 1)));
    else squares(x, 16 * j, 16, w);
    scales[j] = searchScale(x, 16 * j, 16, 32, w, codes);
    // the sums of the search overflowed. The reference would store zeros for these weights; callers look for a d that is not finite instead
    if (!Number.isFinite(scales[j])) return Number.NaN;
  }
  const max = scales[indexOfLargest(scales, 0, 16)];
  if (Math.abs(max) < GROUP_MAX_EPS) {
    out.fill(0);
    return 0;
  }
  const inverse = fround(-128 / max);
  const d = fp16ToFloat(floatToFp16(fround(1 / inverse)));
  for (let j = 0; j < 16; j++) {
    const scale = Math.min(127, nearestInt(fround(inverse * scales[j])));
    out[SCALES + j] = scale; // kept modulo 256: two's complement
    const step = fround(d * scale);
    if (step === 0) continue; // the codes of the search stay
    for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = Math.max(-32, Math.min(31, nearestInt(fround(x[i] / step)))) + 32;
  }
  for (let half = 0; half < 2; half++) {
    const c = 128 * half;
    for (let l = 0; l < 32; l++) {
      const q0 = codes[c + l];
      const q1 = codes[c + l + 32];
      const q2 = codes[c + l + 64];
      const q3 = codes[c + l + 96];
      out[64 * half + l] = (q0 & 15) | ((q2 & 15) << 4);
      out[64 * half + l + 32] = (q1 & 15) | ((q3 & 15) << 4);
      out[128 + 32 * half + l] = (q0 >>> 4) | ((q1 >>> 4) << 2) | ((q2 >>> 4) << 4) | ((q3 >>> 4) << 6);
    }
  }
  return d;
}
