/**
 * What a GGUF block type brings: traits for reading, and an encoder, apart from them so that who only reads does not load it.
 * @module
 */

/** One block type. All work on whole blocks; nothing is checked. Bits per weight are `8 * blockBytes / blockSize`. */
export interface BlockTraits {
  /** Weights per block. */
  readonly blockSize: number;
  readonly blockBytes: number;
  /** Byte offsets of the block's fp16 numbers: its scale, then its minimum where it has one. */
  readonly halves: readonly number[];
  /** Whether the block at byte `from` has a scale that is not finite. Only for types that store one otherwise than as an fp16 number. */
  hasBadScale?(src: Uint8Array, from: number): boolean;
  /** Decodes all blocks of `src`. */
  decode(src: Uint8Array, out: Float32Array): void;
  /**
   * How the block looks as affine codes. Absent where no affine tensor holds every block exactly: types with a minimum (its zero point is
   * no integer), types with scales of two levels (their product is no fp16 number), and types whose codes are looked up.
   */
  readonly affine?: BlockAffine;
}

/** How weights become blocks of a type. */
export interface BlockTypeEncoder {
  /** Largest magnitude the type holds, where it is not the fp16 scale (which would become infinite) that limits it. */
  readonly largest?: number;
  /**
   * Quantizes all weights of `src`, with the reference's choice of scale. Where a weight is too large for the type, an fp16 number of its
   * block becomes infinite or NaN.
   */
  encode(src: Float32Array, out: Uint8Array): void;
  /**
   * The same for one row, with an importance per column. Absent where the reference has no use for importances. Where these are too large,
   * an fp16 number of the block becomes infinite or NaN.
   */
  encodeWeighted?(row: Float32Array, importance: Float32Array, out: Uint8Array): void;
}

/** A block as affine codes around the middle: `w = (code - 2 ** (bits - 1)) * scale`. */
export interface BlockAffine {
  /** Bits of a code. */
  readonly bits: number;
  /** Writes one block at byte `to` from fp16 scale bits and the unsigned codes at `from`, one per byte. */
  pack(scale: number, codes: Uint8Array, from: number, out: Uint8Array, to: number): void;
  /** Reads the codes of the block at byte `from` to `codes` at `to`; returns the bits of its fp16 scale. */
  unpack(src: Uint8Array, from: number, codes: Uint8Array, to: number): number;
}
