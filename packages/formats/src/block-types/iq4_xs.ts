/**
 * GGUF block type IQ4_XS: 256 weights in 136 bytes, 8 sub-blocks of 32, `w = d * (scale - 32) * value[q]` with the 16 values of `_iq4.ts`.
 * Bytes: d as little-endian fp16; the upper two bits of the scales in 2 bytes, lowest first; their low nibbles in 4, those of sub-blocks
 * 2 j (low) and 2 j + 1 (high) in byte j; then 16 bytes per sub-block, of which byte j holds weight j in its low and weight j + 16 in its
 * high nibble.
 *
 * Scales as in ggml's reference: searched per sub-block, the largest getting code 0; codes are made again with the rounded scale and the
 * float32 d. An error costs the weight's square, or with importances as `weigh` says. Every step is rounded to float32: bytes equal the
 * reference's.
 * @module
 */
import { indexOfLargest, meanSquare, nearestInt, readHalf, weigh, writeHalf } from './_float32.js';
import { IQ4_VALUES, nearestIq4, searchIq4Scale } from './_iq4.js';
import { lookUpNibbles, packNibbles } from './_nibbles.js';
import { squares } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const BYTES = 136;
const HIGH = 2;
const LOW = 4;
const CODES = 8;

/** Scratch for one block at a time. */
const codes = /* @__PURE__ */ new Uint8Array(32);
const w = /* @__PURE__ */ new Float32Array(32);
const scales = /* @__PURE__ */ new Float32Array(8);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let x = 0, o = 0; x < src.length; x += 256, o += BYTES) {
    const s = importance ? fround(2 * meanSquare(src, x, 256)) : 0;
    let finite = true;
    for (let j = 0; j < 8; j++) {
      if (importance) weigh(src, importance, x + 32 * j, 32, s, w);
      else squares(src, x + 32 * j, 32, w);
      scales[j] = searchIq4Scale(src, x + 32 * j, w);
      finite &&= Number.isFinite(scales[j]);
    }
    const d = finite ? fround(-scales[indexOfLargest(scales, 0, 8)] / 32) : Number.NaN;
    const inverse = d ? fround(1 / d) : 0;
    let high = 0;
    for (let j = 0; j < 8; j++) {
      const l = Math.max(-32, Math.min(31, nearestInt(fround(inverse * scales[j]))));
      const step = fround(d * l);
      const inverseStep = step ? fround(1 / step) : 0;
      for (let i = 0; i < 32; i++) codes[i] = nearestIq4(fround(inverseStep * src[x + 32 * j + i]));
      packNibbles(codes, 0, 16, out, o + CODES + 16 * j);
      const code = l + 32;
      high |= (code >>> 4) << (2 * j);
      if (j & 1) out[o + LOW + (j >>> 1)] |= (code & 15) << 4;
      else out[o + LOW + (j >>> 1)] = code & 15;
    }
    out[o + HIGH] = high;
    out[o + HIGH + 1] = high >>> 8;
    writeHalf(d, out, o);
  }
}

export const iq4_xs: BlockTraits = {
  blockSize: 256,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES) {
      const d = readHalf(src, s);
      const high = src[s + HIGH] | (src[s + HIGH + 1] << 8);
      for (let j = 0; j < 8; j++, x += 32) {
        const low = (src[s + LOW + (j >>> 1)] >>> (4 * (j & 1))) & 15;
        const scale = low | (((high >>> (2 * j)) & 3) << 4);
        lookUpNibbles(src, s + CODES + 16 * j, 16, IQ4_VALUES, d * (scale - 32), out, x);
      }
    }
  },
};

export const iq4_xsEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
