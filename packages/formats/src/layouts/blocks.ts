/**
 * Layout `blocks`: GGUF block bytes, verbatim, row after row. Blocks run along a row.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { type Blocks, type BlockType, LmqError } from '@lmq/tensor';
import { BLOCK_TYPES, type BlockTraits } from '../block-types/table.js';
import { gatherRows } from '../scales.js';
import { expectArray, expectLength } from './_layout.js';

/** Bytes of a row of `cols` weights. */
export function blockRowBytes(type: BlockType, cols: number): number {
  const { blockSize, blockBytes } = BLOCK_TYPES[type];
  return (cols / blockSize) * blockBytes;
}

export function decodeRows(t: Blocks, from: number, to: number, out: Float32Array): void {
  const step = blockRowBytes(t.type, t.shape[1]);
  BLOCK_TYPES[t.type].decode(t.data.subarray(from * step, to * step), out);
}

export function byteLength(t: Blocks): number {
  return t.data.byteLength;
}

export function validate(t: Blocks, at: string): void {
  const op = 'validate';
  if (!Object.hasOwn(BLOCK_TYPES, t.type)) {
    throw new LmqError('argument/value', `${at}.type is unknown`, { op, expected: Object.keys(BLOCK_TYPES).join(', '), found: t.type });
  }
  const traits = BLOCK_TYPES[t.type];
  if (t.shape[1] % traits.blockSize !== 0) {
    throw new LmqError('argument/shape', `${at} has rows that are not whole blocks`, {
      op,
      expected: `a multiple of ${traits.blockSize} columns`,
      found: t.shape[1],
    });
  }
  expectArray(t.data, 'Uint8Array', `${at}.data`);
  expectLength(t.data.length, t.shape[0] * blockRowBytes(t.type, t.shape[1]), `${at}.data`);
  const bad = firstBadBlock(t.data, traits);
  if (bad >= 0) throw new LmqError('argument/value', `${at}.data has a scale or minimum that is not finite`, { op, found: `block ${bad}` });
}

/**
 * Whether the block at byte `o` has a scale or minimum that is NaN or infinite. The exponent bits of an fp16 number, ones in such, are all in
 * its second byte.
 */
export function isBadBlock(data: Uint8Array, o: number, { halves, hasBadScale }: BlockTraits): boolean {
  for (let k = 0; k < halves.length; k++) if ((data[o + halves[k] + 1] & 0x7c) === 0x7c) return true;
  return hasBadScale?.(data, o) ?? false;
}

/** First block of `data` with a NaN or infinite scale or minimum, or -1. */
export function firstBadBlock(data: Uint8Array, traits: BlockTraits): number {
  const { blockBytes } = traits;
  for (let o = 0; o < data.length; o += blockBytes) if (isBadBlock(data, o, traits)) return o / blockBytes;
  return -1;
}

/** How many blocks of `t` have a scale or minimum that is NaN or infinite. */
export function countBadBlocks(t: Blocks): number {
  const traits = BLOCK_TYPES[t.type];
  let count = 0;
  for (let o = 0; o < t.data.length; o += traits.blockBytes) if (isBadBlock(t.data, o, traits)) count++;
  return count;
}

export function layoutName(t: Blocks): string {
  return t.type;
}

export function selectRows(t: Blocks, index: ArrayLike<number>): Blocks {
  return { ...t, shape: [index.length, t.shape[1]], data: gatherRows(t.data, blockRowBytes(t.type, t.shape[1]), index) };
}
