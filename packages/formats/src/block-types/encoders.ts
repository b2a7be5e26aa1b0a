/**
 * How the GGUF block types that lmq writes are made, by name. IQ1, IQ2 and IQ3 are only read.
 * @module
 */
import type { BlockTypeEncoder } from './_traits.js';
import { iq4_nlEncoder } from './iq4_nl.js';
import { iq4_xsEncoder } from './iq4_xs.js';
import { mxfp4Encoder } from './mxfp4.js';
import type { EncodableBlockType } from './names.js';
import { nvfp4Encoder } from './nvfp4.js';
import { q2_kEncoder } from './q2_k.js';
import { q3_kEncoder } from './q3_k.js';
import { q4_0Encoder } from './q4_0.js';
import { q4_1Encoder } from './q4_1.js';
import { q4_kEncoder } from './q4_k.js';
import { q5_0Encoder } from './q5_0.js';
import { q5_1Encoder } from './q5_1.js';
import { q5_kEncoder } from './q5_k.js';
import { q6_kEncoder } from './q6_k.js';
import { q8_0Encoder } from './q8_0.js';
import { tq1_0Encoder } from './tq1_0.js';
import { tq2_0Encoder } from './tq2_0.js';

export type { BlockTypeEncoder };

/** Encoders by name. */
export const BLOCK_ENCODERS: Readonly<Record<EncodableBlockType, BlockTypeEncoder>> = {
  Q4_0: q4_0Encoder,
  Q4_1: q4_1Encoder,
  Q5_0: q5_0Encoder,
  Q5_1: q5_1Encoder,
  Q8_0: q8_0Encoder,
  Q2_K: q2_kEncoder,
  Q3_K: q3_kEncoder,
  Q4_K: q4_kEncoder,
  Q5_K: q5_kEncoder,
  Q6_K: q6_kEncoder,
  IQ4_NL: iq4_nlEncoder,
  IQ4_XS: iq4_xsEncoder,
  TQ1_0: tq1_0Encoder,
  TQ2_0: tq2_0Encoder,
  MXFP4: mxfp4Encoder,
  NVFP4: nvfp4Encoder,
};
