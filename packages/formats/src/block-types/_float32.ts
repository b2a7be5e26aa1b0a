/**
 * Small float32 arithmetic that ggml's encoders share. Every result is rounded to float32, so that bytes equal the reference's.
 * @module
 */
import { floatToFp16, fp16ToFloat } from '../fp16.js';

const { fround, sqrt } = Math;

/** Adding it to a double of magnitude below 2^51 rounds that to an integer, half to even. */
const MAGIC = 1.5 * 2 ** 52;
/** Blocks smaller than this count as zero. */
export const GROUP_MAX_EPS = fround(1e-15);
export const TENTH = fround(0.1);

/** `x`, of magnitude below 2^51, rounded to the nearest integer, half to even. The reference's way to do so ends at 2^22. */
export function nearestInt(x: number): number {
  return x + MAGIC - MAGIC;
}

/** Stores `value` as little-endian fp16 and returns the number stored. */
export function writeHalf(value: number, out: Uint8Array, to: number): number {
  const bits = floatToFp16(value);
  out[to] = bits;
  out[to + 1] = bits >>> 8;
  return fp16ToFloat(bits);
}

export function readHalf(src: Uint8Array, from: number): number {
  return fp16ToFloat(src[from] | (src[from + 1] << 8));
}

/** Mean of the squares of `count` weights from `from` on. */
export function meanSquare(x: Float32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum = fround(sum + fround(x[i] * x[i]));
  return fround(sum / count);
}

/**
 * What an error of each of the `count` weights from `from` on costs, given the importance of its column: `importance * sqrt(s + x²)` to
 * `out` from 0 on. `s` is a mean square of the surroundings, so that small weights are not worth nothing.
 * @returns the sum
 */
export function weigh(x: Float32Array, importance: Float32Array, from: number, count: number, s: number, out: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const v = x[from + i];
    out[i] = importance[from + i] * fround(sqrt(fround(s + fround(v * v))));
    sum = fround(sum + out[i]);
  }
  return sum;
}

/** Index, from `from` on, of the first of the `count` weights of largest magnitude. */
export function indexOfLargest(x: Float32Array, from: number, count: number): number {
  let at = from;
  for (let i = from + 1; i < from + count; i++) if (Math.abs(x[i]) > Math.abs(x[at])) at = i;
  return at;
}

/** The bits of finite float32 numbers, for {@link largestBits}. */
export function bitsOf(x: Float32Array): Int32Array {
  return new Int32Array(x.buffer, x.byteOffset, x.length);
}

/**
 * The same index as {@link indexOfLargest} gives, faster where little else is done per weight: bits without the sign order as magnitudes
 * do, and their maximum takes no branch, which processors guess wrong a few times per block. `count` is even.
 */
export function largestBits(bits: Int32Array, from: number, count: number): number {
  let even = 0;
  let odd = 0;
  for (let i = from; i < from + count; i += 2) {
    const a = even - (bits[i] & 0x7fffffff);
    const b = odd - (bits[i + 1] & 0x7fffffff);
    even -= a & (a >> 31);
    odd -= b & (b >> 31);
  }
  const largest = Math.max(even, odd);
  let at = from;
  while ((bits[at] & 0x7fffffff) !== largest) at++;
  return at;
}
