/**
 * What a GGUF block type brings.
 * @module
 */

/** One block type, `w = (code - 2 ** (bits - 1)) * scale`. All work on whole blocks; nothing is checked. */
export interface BlockTraits {
  /** Weights per block. */
  readonly blockSize: number;
  readonly blockBytes: number;
  /** Bits of a code, without the block's scale. */
  readonly bits: number;
  /** Quantizes all weights of `src`, with the reference's choice of scale. */
  encode(src: Float32Array, out: Uint8Array): void;
  /** Decodes all blocks of `src`. */
  decode(src: Uint8Array, out: Float32Array): void;
  /** Writes one block at byte `to` from fp16 scale bits and the unsigned codes at `from`, one per byte. */
  pack(scale: number, codes: Uint8Array, from: number, out: Uint8Array, to: number): void;
  /** Reads the codes of the block at byte `from` to `codes` at `to`; returns the bits of its fp16 scale. */
  unpack(src: Uint8Array, from: number, codes: Uint8Array, to: number): number;
}
