/**
 * How the GGUF block types are read, by name. How those that lmq writes are written: `encoders.ts`.
 * @module
 */
import type { BlockType } from '@lmq/tensor';
import type { BlockAffine, BlockTraits } from './_traits.js';
import { iq1_m } from './iq1_m.js';
import { iq1_s } from './iq1_s.js';
import { iq2_s } from './iq2_s.js';
import { iq2_xs } from './iq2_xs.js';
import { iq2_xxs } from './iq2_xxs.js';
import { iq3_s } from './iq3_s.js';
import { iq3_xxs } from './iq3_xxs.js';
import { iq4_nl } from './iq4_nl.js';
import { iq4_xs } from './iq4_xs.js';
import { mxfp4 } from './mxfp4.js';
import { nvfp4 } from './nvfp4.js';
import { q2_k } from './q2_k.js';
import { q3_k } from './q3_k.js';
import { q4_0 } from './q4_0.js';
import { q4_1 } from './q4_1.js';
import { q4_k } from './q4_k.js';
import { q5_0 } from './q5_0.js';
import { q5_1 } from './q5_1.js';
import { q5_k } from './q5_k.js';
import { q6_k } from './q6_k.js';
import { q8_0 } from './q8_0.js';
import { tq1_0 } from './tq1_0.js';
import { tq2_0 } from './tq2_0.js';

export type { BlockAffine, BlockTraits };

/** Traits by name. */
export const BLOCK_TYPES: Readonly<Record<BlockType, BlockTraits>> = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q2_K: q2_k,
  Q3_K: q3_k,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
  IQ4_NL: iq4_nl,
  IQ4_XS: iq4_xs,
  TQ1_0: tq1_0,
  TQ2_0: tq2_0,
  MXFP4: mxfp4,
  NVFP4: nvfp4,
  IQ1_S: iq1_s,
  IQ1_M: iq1_m,
  IQ2_XXS: iq2_xxs,
  IQ2_XS: iq2_xs,
  IQ2_S: iq2_s,
  IQ3_XXS: iq3_xxs,
  IQ3_S: iq3_s,
};
