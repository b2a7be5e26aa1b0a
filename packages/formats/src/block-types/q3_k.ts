/**
 * GGUF block type Q3_K: 256 weights in 110 bytes, 16 sub-blocks of 16, `w = d * (scale - 32) * (q - 4)`. Bytes: 32 with the upper bits of
 * the codes, byte l holding in bit k that of weight 32 k + l; 64 with the lower two as in `_crumbs.ts`; 12 with the scales; d as
 * little-endian fp16. Of the 12, bytes 0 to 7 hold the low nibbles of scales j (low) and j + 8 (high), bytes 8 to 11 the upper two bits of
 * scales j, j + 4, j + 8 and j + 12, lowest first.
 *
 * Scales as in ggml's reference: without importances found by coordinate ascent (`_q3.ts`), the largest getting code 0; with importances
 * searched (`_qx.ts`), d too. Codes are made again with the fp16 d. Every step is rounded to float32: bytes equal the reference's. Decoding
 * rounds once.
 * @module
 */
import { packCrumbs, unpackCrumbs } from './_crumbs.js';
import { indexOfLargest, meanSquare, nearestInt, readHalf, weigh, writeHalf } from './_float32.js';
import { ascendScale } from './_q3.js';
import { searchScale } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const BYTES = 110;
const LOW = 32;
const SCALES = 96;
const D = 108;

/** Scratch for one block at a time. */
const codes = /* @__PURE__ */ new Uint8Array(256);
const w = /* @__PURE__ */ new Float32Array(16);
const costs = /* @__PURE__ */ new Float32Array(16);
const scales = /* @__PURE__ */ new Float32Array(16);
const scaleCodes = /* @__PURE__ */ new Uint8Array(16);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let at = 0, o = 0; at < src.length; at += 256, o += BYTES) {
    const x = src.subarray(at, at + 256);
    const d = writeHalf(importance ? chooseWeighted(x, importance.subarray(at)) : choose(x), out, o + D);
    for (let j = 0; j < 16; j++) {
      const scale = fround(d * (scaleCodes[j] - 32));
      if (scale === 0) continue; // the codes of the search stay
      for (let i = 16 * j; i < 16 * (j + 1); i++) codes[i] = Math.max(-4, Math.min(3, nearestInt(fround(x[i] / scale)))) + 4;
    }
    for (let l = 0; l < 32; l++) {
      let high = 0;
      for (let k = 0; k < 8; k++) high |= (codes[32 * k + l] >>> 2) << k;
      out[o + l] = high;
    }
    packCrumbs(codes, out, o + LOW);
    for (let j = 0; j < 8; j++) out[o + SCALES + j] = (scaleCodes[j] & 15) | ((scaleCodes[j + 8] & 15) << 4);
    for (let j = 0; j < 4; j++) {
      let high = 0;
      for (let k = 0; k < 4; k++) high |= (scaleCodes[j + 4 * k] >>> 4) << (2 * k);
      out[o + SCALES + 8 + j] = high;
    }
  }
}

function choose(x: Float32Array): number {
  for (let j = 0; j < 16; j++) {
    scales[j] = ascendScale(x, 16 * j, codes);
    if (!Number.isFinite(scales[j])) return Number.NaN;
  }
  const largest = scales[indexOfLargest(scales, 0, 16)];
  if (largest === 0) {
    scaleCodes.fill(0);
    return 0;
  }
  const inverse = fround(-32 / largest);
  for (let j = 0; j < 16; j++) scaleCodes[j] = Math.max(-32, Math.min(31, nearestInt(fround(inverse * scales[j])))) + 32;
  return fround(1 / inverse);
}

function chooseWeighted(x: Float32Array, importance: Float32Array): number {
  const s = fround(2 * meanSquare(x, 0, 256));
  for (let j = 0; j < 16; j++) {
    costs[j] = weigh(x, importance, 16 * j, 16, s, w);
    scales[j] = searchScale(x, 16 * j, 16, 4, w, codes);
    if (!Number.isFinite(scales[j])) return Number.NaN;
  }
  return searchScale(scales, 0, 16, 32, costs, scaleCodes);
}

export const q3_k: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [D],

  decode(src, out) {
    const q = new Uint8Array(32);
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s + D);
      for (let j = 0; j < 16; j++, x += 16) {
        const part = 16 * (j & 1);
        if (part === 0) unpackCrumbs(src, s + LOW, j >>> 1, q);
        const low = (src[s + SCALES + (j & 7)] >>> (4 * (j >>> 3))) & 15;
        const high = (src[s + SCALES + 8 + (j & 3)] >>> (2 * (j >>> 2))) & 3;
        const scale = d * ((low | (high << 4)) - 32);
        for (let l = 0; l < 16; l++) out[x + l] = scale * (q[part + l] + 4 * ((src[s + part + l] >>> (j >>> 1)) & 1) - 4);
      }
    }
  },
};

export const q3_kEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
