/**
 * GGUF block type IQ4_NL: 32 weights in 18 bytes, `w = d * value[q]` with the 16 values of `_iq4.ts`. Bytes: d as little-endian fp16, then
 * 16 bytes of which byte j holds weight j in its low and weight j + 16 in its high nibble.
 *
 * Scale as in ggml's reference (`quantize_iq4_nl`, which files are made with): searched; codes are made with the float32 d, not with its
 * fp16. An error costs the weight's square, or with importances as `weigh` says. Every step is rounded to float32: bytes equal the
 * reference's.
 * @module
 */
import { meanSquare, readHalf, weigh, writeHalf } from './_float32.js';
import { IQ4_VALUES, nearestIq4, searchIq4Scale } from './_iq4.js';
import { lookUpNibbles, packNibbles } from './_nibbles.js';
import { squares } from './_qx.js';
import type { BlockTraits, BlockTypeEncoder } from './_traits.js';

const { fround } = Math;
const BYTES = 18;

/** Scratch for one block at a time. */
const codes = /* @__PURE__ */ new Uint8Array(32);
const w = /* @__PURE__ */ new Float32Array(32);

function encode(src: Float32Array, out: Uint8Array, importance?: Float32Array): void {
  for (let x = 0, o = 0; x < src.length; x += 32, o += BYTES) {
    if (importance) weigh(src, importance, x, 32, fround(2 * meanSquare(src, x, 32)), w);
    else squares(src, x, 32, w);
    const d = searchIq4Scale(src, x, w);
    const inverse = d ? fround(1 / d) : 0;
    for (let j = 0; j < 32; j++) codes[j] = nearestIq4(fround(inverse * src[x + j]));
    writeHalf(d, out, o);
    packNibbles(codes, 0, 16, out, o + 2);
  }
}

export const iq4_nl: BlockTraits = {
  blockSize: 32,
  blockBytes: BYTES,
  halves: [0],

  decode(src, out) {
    for (let s = 0, x = 0; s < src.length; s += BYTES, x += 32) lookUpNibbles(src, s + 2, 16, IQ4_VALUES, readHalf(src, s), out, x);
  },
};

export const iq4_nlEncoder: BlockTypeEncoder = {
  encode: (src, out) => encode(src, out),
  encodeWeighted: (row, importance, out) => encode(row, out, importance),
};
