/**
 * GGUF block type Q2_K: 256 weights in 84 bytes, 16 sub-blocks of 16, `w = d * scale * q - dmin * min`. Bytes: 16 of which byte j holds the
 * scale of sub-block j in its low and its minimum in its high nibble; 64 with the codes as in `_crumbs.ts`; d and dmin as little-endian
 * fp16.
 *
 * Scales as in ggml's reference: searched per sub-block (`_qkx.ts`). Without importances, an error costs the weight's magnitude, not
 * squared, and the largest scale and minimum get code 15; with importances, it costs as `weigh` says, and d and dmin are searched too
 * (`_qp.ts`). Codes are made again with the fp16 d and dmin. Every step is rounded to float32: bytes equal the reference's. Decoding rounds
 * once.
 * @module
 */
import { packCrumbs, unpackCrumbs } from './_crumbs.js';
import { meanSquare, nearestInt, readHalf, weigh, writeHalf } from './_float32.js';
import { searchScaleAndMin, type Tries, WEIGHTED_TRIES } from './_qkx.js';
import { searchPositiveScale } from './_qp.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround, abs } = Math;
const BYTES = 84;
const CODES = 16;
const D = 80;
const TRIES: Tries = { first: -0.5, step: /* @__PURE__ */ fround(0.1), last: 15, absolute: true };

/** Scratch for one block at a time. */
const codes = /* @__PURE__ */ new Uint8Array(256);
const w = /* @__PURE__ */ new Float32Array(16);
const costs = /* @__PURE__ */ new Float32Array(16);
const scales = /* @__PURE__ */ new Float32Array(16);
const mins = /* @__PURE__ */ new Float32Array(16);
const scaleCodes = /* @__PURE__ */ new Uint8Array(16);
const minCodes = /* @__PURE__ */ new Uint8Array(16);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let at = 0, o = 0; at < src.length; at += 256, o += BYTES) {
    const x = src.subarray(at, at + 256);
    let [d, dMin] = importance ? chooseWeighted(x, importance.subarray(at)) : choose(x);
    d = writeHalf(d, out, o + D);
    dMin = writeHalf(dMin, out, o + D + 2);
    for (let j = 0; j < 16; j++) {
      out[o + j] = scaleCodes[j] | (minCodes[j] << 4);
      const scale = fround(d * scaleCodes[j]);
      if (scale === 0) continue; // the codes of the search stay
      const min = fround(dMin * minCodes[j]);
      for (let i = 16 * j; i < 16 * (j + 1); i++) codes[i] = Math.max(0, Math.min(3, nearestInt(fround(fround(x[i] + min) / scale))));
    }
    packCrumbs(codes, out, o + CODES);
  }
}

function choose(x: Float32Array): [d: number, dMin: number] {
  let scale = 0;
  let min = 0;
  for (let j = 0; j < 16; j++) {
    for (let i = 0; i < 16; i++) w[i] = abs(x[16 * j + i]);
    searchScaleAndMin(x, 16 * j, 16, 3, w, TRIES, codes, scales, mins, j);
    scale = Math.max(scale, scales[j]); // NaN if one is
    min = Math.max(min, mins[j]);
  }
  const perScale = scale > 0 ? fround(15 / scale) : 0;
  const perMin = min > 0 ? fround(15 / min) : 0;
  for (let j = 0; j < 16; j++) {
    scaleCodes[j] = Math.min(15, nearestInt(fround(perScale * scales[j])));
    minCodes[j] = Math.min(15, nearestInt(fround(perMin * mins[j])));
  }
  return [fround(scale / 15), fround(min / 15)];
}

function chooseWeighted(x: Float32Array, importance: Float32Array): [d: number, dMin: number] {
  const s = meanSquare(x, 0, 256);
  for (let j = 0; j < 16; j++) {
    costs[j] = weigh(x, importance, 16 * j, 16, s, w);
    searchScaleAndMin(x, 16 * j, 16, 3, w, WEIGHTED_TRIES, codes, scales, mins, j);
  }
  return [searchPositiveScale(scales, 15, costs, scaleCodes), searchPositiveScale(mins, 15, costs, minCodes)];
}

export const q2_k: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [D, D + 2],

  decode(src, out) {
    const q = new Uint8Array(32);
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s + D);
      const dMin = readHalf(src, s + D + 2);
      for (let j = 0; j < 16; j++, x += 16) {
        const part = 16 * (j & 1);
        if (part === 0) unpackCrumbs(src, s + CODES, j >>> 1, q);
        const scale = d * (src[s + j] & 15);
        const min = dMin * (src[s + j] >>> 4);
        for (let l = 0; l < 16; l++) out[x + l] = scale * q[part + l] - min;
      }
    }
  },
};

export const q2_kEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
