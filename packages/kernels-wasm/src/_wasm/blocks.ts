/**
 * GGUF blocks that `blocksToAffine` of formats leaves alone, as codes for the integer gemv kernels: `w = (code - zero) * scale + min`, with
 * the zero that those kernels read codes with (0 for 4 bits, 128 for 8), so that no zero point is left to take away. Q4_1 and Q5_1 keep
 * their minimum: -m / d is no whole number. Q6_K's two scales are multiplied. All values decode to those of formats, bit for bit: code
 * times fp16 scale is exact in f32, and one rounding follows, in the sum with m or in the product with Q6_K's (exact) product of scales.
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

const UNPACKERS: Partial<Record<BlockType, Unpacker>> = {
  Q4_1: { bits: 4, groupSize: 32, blockSize: 32, blockBytes: 20, hasMin: true, unpack: unpackQ4_1 },
  Q5_1: { bits: 8, groupSize: 32, blockSize: 32, blockBytes: 24, hasMin: true, unpack: unpackQ5_1 },
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
