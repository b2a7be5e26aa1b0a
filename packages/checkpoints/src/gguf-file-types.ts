/**
 * What a GGUF file can be "mostly" made of: the types and mixtures of types that llama.cpp's `llama-quantize` offers, with their ids in
 * `general.file_type` (llama.h, enum llama_ftype) and the type that most of their matrices have (llama-quant.cpp).
 *
 * Without those whose main type lmq only reads: IQ1, IQ2, IQ3.
 * @module
 */
import type { BlockType } from '@lmq/tensor';

/** Types that a matrix can be written as. */
export type GgufMatrixType = 'F32' | 'F16' | 'BF16' | BlockType;

/** By lower-case name: `[general.file_type, main type]`. */
const TABLE = {
  f32: [0, 'F32'],
  f16: [1, 'F16'],
  q4_0: [2, 'Q4_0'],
  q4_1: [3, 'Q4_1'],
  q8_0: [7, 'Q8_0'],
  q5_0: [8, 'Q5_0'],
  q5_1: [9, 'Q5_1'],
  q2_k: [10, 'Q2_K'],
  q3_k_s: [11, 'Q3_K'],
  q3_k_m: [12, 'Q3_K'],
  q3_k_l: [13, 'Q3_K'],
  q4_k_s: [14, 'Q4_K'],
  q4_k_m: [15, 'Q4_K'],
  q5_k_s: [16, 'Q5_K'],
  q5_k_m: [17, 'Q5_K'],
  q6_k: [18, 'Q6_K'],
  q2_k_s: [21, 'Q2_K'], // with importances only
  iq4_nl: [25, 'IQ4_NL'],
  iq4_xs: [30, 'IQ4_XS'],
  bf16: [32, 'BF16'],
  tq1_0: [36, 'TQ1_0'],
  tq2_0: [37, 'TQ2_0'],
  mxfp4_moe: [38, 'MXFP4'],
  mxfp4: [38, 'MXFP4'], // dense models too, which llama.cpp runs and has no id of its own for
  nvfp4: [39, 'NVFP4'],
} as const satisfies Record<string, readonly [number, GgufMatrixType]>;

export type GgufFileTypeName = keyof typeof TABLE;

export interface GgufFileType {
  name: GgufFileTypeName;
  /** `general.file_type`. */
  id: number;
  /** Of most matrices. */
  type: GgufMatrixType;
}

/** By name, e.g. `q4_k_m`. */
export const GGUF_FILE_TYPES: ReadonlyMap<GgufFileTypeName, GgufFileType> = new Map(
  (Object.keys(TABLE) as GgufFileTypeName[]).map((name) => [name, { name, id: TABLE[name][0], type: TABLE[name][1] }]),
);

/** Whether the matrices of such a file are blocks, not floats. */
export function isBlockFileType(name: GgufFileTypeName): boolean {
  return !['F32', 'F16', 'BF16'].includes(TABLE[name][1]);
}
