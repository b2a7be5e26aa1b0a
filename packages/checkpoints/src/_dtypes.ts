/**
 * dtypes of safetensors: bits per element, what lmq calls them, and their rank in the order that the reference writer sorts by.
 * @module
 */
import type { FloatFormat, MinifloatFormat, ScaleFormat } from '@lmq/tensor';

export interface Dtype {
  /** As files spell it. */
  name: string;
  bits: number;
  /** What `TensorInfo.format` says. */
  format: string;
  /** Set for the formats that lmq computes with. */
  float?: FloatFormat;
}

/** In the reference crate's order; its writer puts later ones first. */
const TABLE: readonly (readonly [string, number, string, FloatFormat?])[] = [
  ['BOOL', 8, 'bool'],
  ['F4', 4, 'fp4e2m1'],
  ['F6_E2M3', 6, 'fp6e2m3'],
  ['F6_E3M2', 6, 'fp6e3m2'],
  ['U8', 8, 'uint8'],
  ['I8', 8, 'int8'],
  ['F8_E5M2', 8, 'fp8e5m2'],
  ['F8_E4M3', 8, 'fp8e4m3'],
  ['F8_E8M0', 8, 'e8m0'],
  ['F8_E4M3FNUZ', 8, 'fp8e4m3fnuz'],
  ['F8_E5M2FNUZ', 8, 'fp8e5m2fnuz'],
  ['I16', 16, 'int16'],
  ['U16', 16, 'uint16'],
  ['F16', 16, 'fp16', 'fp16'],
  ['BF16', 16, 'bf16', 'bf16'],
  ['I32', 32, 'int32'],
  ['U32', 32, 'uint32'],
  ['F32', 32, 'fp32', 'fp32'],
  ['C64', 64, 'complex64'],
  ['F64', 64, 'fp64'],
  ['I64', 64, 'int64'],
  ['U64', 64, 'uint64'],
];

export const DTYPES: ReadonlyMap<string, Dtype> = new Map(
  TABLE.map(([name, bits, format, float]) => [name, float ? { name, bits, format, float } : { name, bits, format }]),
);

const RANKS = new Map(TABLE.map(([name], i) => [name, i]));

/** Place of a dtype in the reference order. */
export function dtypeRank(dtype: string): number {
  return RANKS.get(dtype) ?? -1;
}

/** The dtype of a float format. */
export const FLOAT_DTYPES: Readonly<Record<FloatFormat, string>> = { fp32: 'F32', fp16: 'F16', bf16: 'BF16' };

/** The dtype that scales are stored in. */
export const SCALE_DTYPES: Readonly<Record<ScaleFormat, string>> = { ...FLOAT_DTYPES, fp8e4m3: 'F8_E4M3', e8m0: 'F8_E8M0', table8: 'U8' };

/** The dtype of packed minifloats: bytes where a code is not a byte, since our rows begin on one. */
export const MINIFLOAT_DTYPES: Readonly<Record<MinifloatFormat, string>> = {
  fp8e4m3: 'F8_E4M3',
  fp8e5m2: 'F8_E5M2',
  fp6e2m3: 'U8',
  fp6e3m2: 'U8',
  fp4e2m1: 'U8',
};
