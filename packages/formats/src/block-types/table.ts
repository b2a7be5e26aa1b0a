/**
 * The GGUF block types that lmq reads and writes, by name.
 * @module
 */
import type { BlockType } from '@lmq/tensor';
import type { BlockTraits } from './_traits.js';
import { q4_0 } from './q4_0.js';
import { q8_0 } from './q8_0.js';

export type { BlockTraits };

/** Traits by name. */
export const BLOCK_TYPES: Readonly<Record<BlockType, BlockTraits>> = { Q4_0: q4_0, Q8_0: q8_0 };
