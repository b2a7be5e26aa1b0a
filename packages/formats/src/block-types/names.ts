/**
 * Names of the GGUF block types that lmq knows, without their code.
 * @module
 */
import type { BlockType } from '@lmq/tensor';

/** Those that lmq writes. */
export const ENCODABLE_BLOCK_TYPES = [
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
  'TQ1_0',
  'TQ2_0',
  'MXFP4',
  'NVFP4',
] as const satisfies readonly BlockType[];

export type EncodableBlockType = (typeof ENCODABLE_BLOCK_TYPES)[number];

/** Those and what it only reads. */
export const BLOCK_TYPE_NAMES: readonly BlockType[] = [
  ...ENCODABLE_BLOCK_TYPES,
  'IQ1_S',
  'IQ1_M',
  'IQ2_XXS',
  'IQ2_XS',
  'IQ2_S',
  'IQ3_XXS',
  'IQ3_S',
];

export function isBlockType(name: string): name is BlockType {
  return BLOCK_TYPE_NAMES.some((known) => known === name);
}
