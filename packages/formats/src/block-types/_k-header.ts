/**
 * The first 16 bytes of a Q4_K or Q5_K block, and how they are chosen: d and dmin as little-endian fp16, then 8 scales and 8 minimums of 6
 * bits in 12 bytes. Sub-block j of 32 weights is `w = d * scale[j] * q - dmin * min[j]`.
 *
 * Of the 12 bytes, 0 to 3 hold scales 0 to 3 in their low six bits, 4 to 7 minimums 0 to 3, and 8 to 11 the low nibbles of scales (low)
 * and minimums (high) 4 to 7, whose upper two bits are on top of bytes 0 to 3 and 4 to 7.
 *
 * As in ggml's reference. Without importances, an error costs the weight's magnitude plus the root mean square of its sub-block, and the
 * largest scale and minimum get code 63. With importances, it costs as `weigh` says, and d and dmin are searched too.
 * @module
 */
import { meanSquare, nearestInt, weigh, writeHalf } from './_float32.js';
import { searchScaleAndMin, type Tries, WEIGHTED_TRIES } from './_qkx.js';
import { searchPositiveScale } from './_qp.js';

const { fround, abs } = Math;
const SUB_BLOCKS = 8;
const SIZE = 32;

/** Scratch for one block at a time. */
const w = /* @__PURE__ */ new Float32Array(SIZE);
const costs = /* @__PURE__ */ new Float32Array(SUB_BLOCKS);
const scales = /* @__PURE__ */ new Float32Array(SUB_BLOCKS);
const mins = /* @__PURE__ */ new Float32Array(SUB_BLOCKS);
const scaleCodes = /* @__PURE__ */ new Uint8Array(SUB_BLOCKS);
const minCodes = /* @__PURE__ */ new Uint8Array(SUB_BLOCKS);

/** Scale code of sub-block j; `at` is where the 12 bytes begin. */
export function scaleCode(src: Uint8Array, at: number, j: number): number {
  return j < 4 ? src[at + j] & 63 : (src[at + j + 4] & 15) | ((src[at + j - 4] >>> 6) << 4);
}

/** Minimum code of sub-block j. */
export function minCode(src: Uint8Array, at: number, j: number): number {
  return j < 4 ? src[at + j + 4] & 63 : (src[at + j + 4] >>> 4) | ((src[at + j] >>> 6) << 4);
}

/**
 * Writes the header of the block of 256 weights from `from` on to `to`, and its codes 0 … `most` to `codes` from 0 on.
 * @param tries what to try without importances
 */
export function encodeHeader(
  x: Float32Array,
  from: number,
  importance: Float32Array | undefined,
  most: number,
  tries: Tries,
  codes: Uint8Array,
  out: Uint8Array,
  to: number,
): void {
  const block = x.subarray(from, from + SUB_BLOCKS * SIZE);
  let [d, dMin] = importance ? chooseWeighted(block, importance.subarray(from), most, codes) : choose(block, most, tries, codes);
  d = writeHalf(d, out, to);
  dMin = writeHalf(dMin, out, to + 2);
  for (let j = 0; j < 4; j++) {
    out[to + 4 + j] = scaleCodes[j] | ((scaleCodes[j + 4] >>> 4) << 6);
    out[to + 8 + j] = minCodes[j] | ((minCodes[j + 4] >>> 4) << 6);
    out[to + 12 + j] = (scaleCodes[j + 4] & 15) | ((minCodes[j + 4] & 15) << 4);
  }
  for (let j = 0; j < SUB_BLOCKS; j++) {
    const scale = fround(d * scaleCodes[j]);
    if (scale === 0) continue; // the codes of the search stay
    const min = fround(dMin * minCodes[j]);
    for (let i = SIZE * j; i < SIZE * (j + 1); i++)
      codes[i] = Math.max(0, Math.min(most, nearestInt(fround(fround(block[i] + min) / scale))));
  }
}

function choose(x: Float32Array, most: number, tries: Tries, codes: Uint8Array): [d: number, dMin: number] {
  let scale = 0;
  let min = 0;
  for (let j = 0; j < SUB_BLOCKS; j++) {
    const from = SIZE * j;
    const mean = fround(Math.sqrt(meanSquare(x, from, SIZE)));
    for (let i = 0; i < SIZE; i++) w[i] = mean + abs(x[from + i]);
    searchScaleAndMin(x, from, SIZE, most, w, tries, codes, scales, mins, j);
    scale = Math.max(scale, scales[j]); // NaN if one is
    min = Math.max(min, mins[j]);
  }
  const perScale = scale > 0 ? fround(63 / scale) : 0;
  const perMin = min > 0 ? fround(63 / min) : 0;
  for (let j = 0; j < SUB_BLOCKS; j++) {
    scaleCodes[j] = Math.min(63, nearestInt(fround(perScale * scales[j])));
    minCodes[j] = Math.min(63, nearestInt(fround(perMin * mins[j])));
  }
  return [fround(scale / 63), fround(min / 63)];
}

function chooseWeighted(x: Float32Array, importance: Float32Array, most: number, codes: Uint8Array): [d: number, dMin: number] {
  const s = fround(2 * meanSquare(x, 0, SUB_BLOCKS * SIZE));
  for (let j = 0; j < SUB_BLOCKS; j++) {
    costs[j] = weigh(x, importance, SIZE * j, SIZE, s, w);
    searchScaleAndMin(x, SIZE * j, SIZE, most, w, WEIGHTED_TRIES, codes, scales, mins, j);
  }
  return [searchPositiveScale(scales, 63, costs, scaleCodes), searchPositiveScale(mins, 63, costs, minCodes)];
}
