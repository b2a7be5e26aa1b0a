/**
 * GGUF blocks that `blocksToAffine` of formats leaves alone, as codes for the integer gemv kernels: `w = (code - zero) * scale + min`, with
 * the zero that those kernels read codes with (0 for 4 bits, 128 for 8), so that no zero point is left to take away. Q4_1 and Q5_1 keep
 * their minimum: -m / d is no whole number. Scales of two levels are multiplied, exactly. All values decode to those of formats, bit for
 * bit: code times scale is exact in f32 and one rounding follows, in the sum with m; or there is no m, and the product is rounded.
 * @module
 */
import { fp16ToFloat } from '@lmq/formats';
import type { Blocks, BlockType } from '@lmq/tensor';

export interface BlockCodes {
  bits: 4 | 8;
  groupSize: number;
  /** Packed rows, as in layout `affine`. */
  codes: Uint8Array;
  /** [out, groups]. */
  scales: Float32Array;
  /** [out, groups], or null: nothing is added. */
  mins: Float32Array | null;
}

/** A block's codes, packed, to `codes` at `to`; its scales and minimum to index `g` on. */
type Unpack = (src: Uint8Array, from: number, codes: Uint8Array, to: number, scales: Float32Array, mins: Float32Array, g: number) => void;

interface Unpacker {
  bits: 4 | 8;
  groupSize: number;
  blockSize: number;
  blockBytes: number;
  hasMin: boolean;
  unpack: Unpack;
}

const half = (src: Uint8Array, at: number) => fp16ToFloat(src[at]! | (src[at + 1]! << 8));

/** Nibbles (j, j + 16) of byte j become (2 j, 2 j + 1). */
const unpackQ4_1: Unpack = (src, from, codes, to, scales, mins, g) => {
  scales[g] = half(src, from);
  mins[g] = half(src, from + 2);
  for (let j = 0; j < 8; j++) {
    const a = src[from + 4 + 2 * j]!;
    const b = src[from + 5 + 2 * j]!;
    codes[to + j] = (a & 15) | ((b & 15) << 4);
    codes[to + 8 + j] = (a >>> 4) | (b & 240);
  }
};

/** Codes 0 … 31, moved up by 128. */
const unpackQ5_1: Unpack = (src, from, codes, to, scales, mins, g) => {
  scales[g] = half(src, from);
  mins[g] = half(src, from + 2);
  for (let j = 0; j < 16; j++) {
    const q = src[from + 8 + j]!;
    const low = (src[from + 4 + (j >>> 3)]! >>> (j & 7)) & 1;
    const high = (src[from + 6 + (j >>> 3)]! >>> (j & 7)) & 1;
    codes[to + j] = 128 + ((q & 15) | (low << 4));
    codes[to + j + 16] = 128 + ((q >>> 4) | (high << 4));
  }
};

/** Codes 0 … 63, moved from a zero of 32 to one of 128. Every 16 have their signed scale. */
const unpackQ6_K: Unpack = (src, from, codes, to, scales, _mins, g) => {
  const d = half(src, from + 208);
  for (let k = 0; k < 16; k++) scales[g + k] = d * ((src[from + 192 + k]! << 24) >> 24);
  for (let h = 0; h < 2; h++) {
    const c = to + 128 * h;
    for (let l = 0; l < 32; l++) {
      const a = src[from + 64 * h + l]!;
      const b = src[from + 64 * h + l + 32]!;
      const top = src[from + 128 + 32 * h + l]!;
      codes[c + l] = 96 + ((a & 15) | ((top & 3) << 4));
      codes[c + l + 32] = 96 + ((b & 15) | ((top & 12) << 2));
      codes[c + l + 64] = 96 + ((a >>> 4) | (top & 48));
      codes[c + l + 96] = 96 + ((b >>> 4) | ((top & 192) >>> 2));
    }
  }
};

/** Scale and minimum of sub-block j of Q4_K and Q5_K to index g; they begin at byte `at`, behind d and dmin. */
function scaleAndMin(src: Uint8Array, at: number, j: number, scales: Float32Array, mins: Float32Array, g: number): void {
  const [a, b] = [src[at + (j & 3)]!, src[at + 4 + (j & 3)]!];
  const low = src[at + 8 + (j & 3)]!;
  const scale = j < 4 ? a & 63 : (low & 15) | ((a >>> 6) << 4);
  const min = j < 4 ? b & 63 : (low >>> 4) | ((b >>> 6) << 4);
  scales[g] = half(src, at - 4) * scale;
  mins[g] = -half(src, at - 2) * min;
}

/** Byte l of 32 holds codes l and l + 32; they become (2 j, 2 j + 1). */
const unpackQ4_K: Unpack = (src, from, codes, to, scales, mins, g) => {
  for (let j = 0; j < 8; j++) scaleAndMin(src, from + 4, j, scales, mins, g + j);
  for (let k = 0; k < 4; k++) {
    for (let l = 0; l < 16; l++) {
      const a = src[from + 16 + 32 * k + 2 * l]!;
      const b = src[from + 17 + 32 * k + 2 * l]!;
      codes[to + 32 * k + l] = (a & 15) | ((b & 15) << 4);
      codes[to + 32 * k + 16 + l] = (a >>> 4) | (b & 240);
    }
  }
};

/** Codes 0 … 31, moved up by 128. */
const unpackQ5_K: Unpack = (src, from, codes, to, scales, mins, g) => {
  for (let j = 0; j < 8; j++) {
    scaleAndMin(src, from + 4, j, scales, mins, g + j);
    const low = from + 48 + 32 * (j >>> 1);
    for (let l = 0; l < 32; l++)
      codes[to + 32 * j + l] = 128 + (((src[low + l]! >>> (4 * (j & 1))) & 15) | (((src[from + 16 + l]! >>> j) & 1) << 4));
  }
};

/** Codes 0 … 7, moved from a zero of 4 to one of 128. Every 16 have their signed scale. */
const unpackQ3_K: Unpack = (src, from, codes, to, scales, _mins, g) => {
  const d = half(src, from + 108);
  for (let k = 0; k < 16; k++) {
    const low = (src[from + 96 + (k & 7)]! >>> (4 * (k >>> 3))) & 15;
    const high = (src[from + 104 + (k & 3)]! >>> (2 * (k >>> 2))) & 3;
    scales[g + k] = d * ((low | (high << 4)) - 32);
  }
  for (let j = 0; j < 8; j++) {
    for (let l = 0; l < 32; l++) {
      const low = (src[from + 32 + 32 * (j >>> 2) + l]! >>> (2 * (j & 3))) & 3;
      codes[to + 32 * j + l] = 124 + (low | (((src[from + l]! >>> j) & 1) << 2));
    }
  }
};

const UNPACKERS: Partial<Record<BlockType, Unpacker>> = {
  Q4_1: { bits: 4, groupSize: 32, blockSize: 32, blockBytes: 20, hasMin: true, unpack: unpackQ4_1 },
  Q5_1: { bits: 8, groupSize: 32, blockSize: 32, blockBytes: 24, hasMin: true, unpack: unpackQ5_1 },
  Q3_K: { bits: 8, groupSize: 16, blockSize: 256, blockBytes: 110, hasMin: false, unpack: unpackQ3_K },
  Q4_K: { bits: 4, groupSize: 32, blockSize: 256, blockBytes: 144, hasMin: true, unpack: unpackQ4_K },
  Q5_K: { bits: 8, groupSize: 32, blockSize: 256, blockBytes: 176, hasMin: true, unpack: unpackQ5_K },
  Q6_K: { bits: 8, groupSize: 16, blockSize: 256, blockBytes: 210, hasMin: false, unpack: unpackQ6_K },
};

/** Unpacks a checked weight; null for a type that is not here. */
export function unpackBlocks(t: Blocks): BlockCodes | null {
  const unpacker = UNPACKERS[t.type];
  if (!unpacker) return null;
  const { bits, groupSize, blockSize, blockBytes, hasMin, unpack } = unpacker;
  const weights = t.shape[0] * t.shape[1];
  const codes = new Uint8Array((weights * bits) / 8); // rows are whole blocks, so they need no padding
  const scales = new Float32Array(weights / groupSize);
  const mins = new Float32Array(hasMin ? scales.length : 0);
  for (let b = 0; b < weights / blockSize; b++)
    unpack(t.data, b * blockBytes, codes, (b * blockSize * bits) / 8, scales, mins, (b * blockSize) / groupSize);
  return { bits, groupSize, codes, scales, mins: hasMin ? mins : null };
}
