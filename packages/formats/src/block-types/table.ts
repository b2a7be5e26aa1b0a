/**
 * The GGUF block types that lmq reads and writes, by name.
 * @module
 */
import type { BlockType } from '@lmq/tensor';
import type { BlockAffine, BlockTraits } from './_traits.js';
import { q4_0 } from './q4_0.js';
import { q4_1 } from './q4_1.js';
import { q5_0 } from './q5_0.js';
import { q5_1 } from './q5_1.js';
import { q6_k } from './q6_k.js';
import { q8_0 } from './q8_0.js';

export type { BlockAffine, BlockTraits };

/** Traits by name. */
export const BLOCK_TYPES: Readonly<Record<BlockType, BlockTraits>> = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q6_K: q6_k,
};
