/**
 * Storage layouts of compressed weights: what a method returns, a backend multiplies with, and a checkpoint writes. A closed union; a
 * method that needs a new layout extends it, and brings decode, byteLength and validate (`@lmq/formats`) and multiplication (backends).
 *
 * Common to all: `shape` is `[out, in]`. Codes are unsigned, packed with the lowest bits first; each row of `codes` starts on a byte
 * (`rowBytes = ceil(in * bits / 8)`). Columns are in their original order: act-order lives in `groupIndex`. `data` keeps the stored
 * bits, so sizes are exact and a trip through a file changes nothing.
 * @module
 */
import type { Tensor } from './ndarray.js';

export type CompressedTensor = Dense | Minifloat | Affine | Lut | Blocks | Sum | Parts | Rescaled;
export type LayoutKind = CompressedTensor['kind'];

/** Float formats of plain tensors, and of most scales. */
export type FloatFormat = 'fp32' | 'fp16' | 'bf16';

/** Stored floats: `Float32Array` for fp32, `Uint16Array` of bit patterns for fp16 and bf16. */
export type FloatData = Float32Array | Uint16Array;

/** Plain numbers, row-major. */
export interface Dense {
  kind: 'dense';
  shape: [rows: number, cols: number];
  format: FloatFormat;
  data: FloatData;
}

/** Floats of 8 bits and fewer: OCP FP8 (E4M3 without infinity) and the elements of OCP MX. */
export type MinifloatFormat = 'fp8e4m3' | 'fp8e5m2' | 'fp6e2m3' | 'fp6e3m2' | 'fp4e2m1';

/** Formats of a scale: floats; `e8m0`, a power of two; `table8`, an index into the scales' own table of 256. */
export type ScaleFormat = FloatFormat | 'fp8e4m3' | 'e8m0' | 'table8';

/**
 * Weights that share a scale: a rectangle, `[1, g]` for a group of g input columns, `[1, in]` for an output row, `[out, in]` for the tensor,
 * stored row-major as `[ceil(out / rows), ceil(in / cols)]`; or runs of `flat` weights in row-major order, across rows (bitsandbytes).
 */
export type ScaleBlock = [rows: number, cols: number] | { flat: number };

/**
 * Scales, one per block. The scale in use is the stored number, rounded to float32 after each of the steps that it has: `number * outer +
 * offset` (bitsandbytes' double quantization), `number / global` or `number * global` (NVFP4).
 */
export interface Scales {
  block: ScaleBlock;
  format: ScaleFormat;
  /** `Float32Array` for fp32, `Uint16Array` of bits for fp16 and bf16, `Uint8Array` of codes for the others. */
  data: FloatData | Uint8Array;
  /** 256 numbers; `table8` has it and no other. */
  table?: Float32Array;
  /** Scales of the scales, `table8` only: one per run of `flat` scales in their stored order, and a mean that was taken away. */
  outer?: { scales: OuterScales; offset: number };
  /** A float32 for the whole tensor, above 0; `fp8e4m3` only. compressed-tensors stores one to divide by, others one to multiply with. */
  global?: { op: 'divide' | 'multiply'; value: number };
}

/** Scales in rectangles. With a `groupIndex` in the tensor, column c takes group `groupIndex[c]` and the blocks count groups only. */
export interface GridScales extends Scales {
  block: [rows: number, cols: number];
}

/** Plain scales of scales. */
export interface OuterScales {
  block: { flat: number };
  format: FloatFormat;
  data: FloatData;
}

/** Floats of 8 bits and fewer: `w = number(code) * scale`. FP8, MXFP4, MXFP6, MXFP8, NVFP4. */
export interface Minifloat {
  kind: 'minifloat';
  shape: [rows: number, cols: number];
  format: MinifloatFormat;
  /** `out * ceil(in * bits / 8)` bytes. */
  codes: Uint8Array;
  scales?: Scales;
}

/** Zero points that are no integers (HQQ), one per scale. The difference of a code and its zero point is rounded to float32. */
export interface FloatZeroPoints {
  format: FloatFormat;
  data: FloatData;
}

/** Uniform integers: `w = (code - zero) * scale`. */
export interface Affine {
  kind: 'affine';
  shape: [rows: number, cols: number];
  /** 1 to 8. */
  bits: number;
  /** Input columns that share a scale; `in` when one scale serves a row. Equal to `scales.block[1]`. */
  groupSize: number;
  /** `out * ceil(in * bits / 8)` bytes. */
  codes: Uint8Array;
  scales: GridScales;
  /**
   * One zero point per scale, in the order of the scales: unsigned `bits`-wide integers packed as one bit stream without row alignment, or
   * floats. Absent: every zero point is `2 ** (bits - 1)`.
   */
  zeroPoints?: Uint8Array | FloatZeroPoints;
  /** Group of each input column, when columns are not grouped in order (act-order). Length `in`. */
  groupIndex?: Int32Array;
}

/** Table look-up: `w = table[code] * scale`. NF4, FP4, NUQ, SqueezeLLM, trits. */
export interface Lut {
  kind: 'lut';
  shape: [rows: number, cols: number];
  /** 1 to 8. */
  bits: number;
  codes: Uint8Array;
  /** `[1, 2 ** bits]` per tensor, `[out, 2 ** bits]` per row, `[in, 2 ** bits]` per column. */
  tables: Tensor<Float32Array>;
  tablePer: 'tensor' | 'row' | 'column';
  scales?: Scales;
}

/** GGUF block types that lmq stores verbatim. */
export type BlockType =
  | 'Q4_0'
  | 'Q4_1'
  | 'Q5_0'
  | 'Q5_1'
  | 'Q8_0'
  | 'Q2_K'
  | 'Q3_K'
  | 'Q4_K'
  | 'Q5_K'
  | 'Q6_K'
  | 'IQ4_NL'
  | 'IQ4_XS'
  | 'TQ1_0'
  | 'TQ2_0'
  | 'MXFP4'
  | 'NVFP4'
  | 'IQ1_S'
  | 'IQ1_M'
  | 'IQ2_XXS'
  | 'IQ2_XS'
  | 'IQ2_S'
  | 'IQ3_XXS'
  | 'IQ3_S';

/** GGUF block bytes, verbatim, row after row. */
export interface Blocks {
  kind: 'blocks';
  shape: [rows: number, cols: number];
  type: BlockType;
  data: Uint8Array;
}

/** The sum of terms of equal shape: dense-and-sparse, additive codebooks. */
export interface Sum {
  kind: 'sum';
  shape: [rows: number, cols: number];
  terms: CompressedTensor[];
}

/** Disjoint slices along one axis that together cover it: outlier columns, full rows. `index[i]` is where slice row (or column) i goes. */
export interface Parts {
  kind: 'parts';
  shape: [rows: number, cols: number];
  axis: 'out' | 'in';
  parts: { index: Uint32Array; base: CompressedTensor }[];
}

/** Columns multiplied by `inputScale` (length `in`) before use: `w[r][c] = base[r][c] * inputScale[c]`. AWQ and SmoothQuant, when not folded. */
export interface Rescaled {
  kind: 'rescaled';
  shape: [rows: number, cols: number];
  inputScale: Float32Array;
  base: CompressedTensor;
}

/**
 * How a linear's input is quantized at run time, to be multiplied with integer codes of the weight in integer arithmetic. The weight is
 * `affine` with integer zero points and groups of columns in order, of a multiple of 32 columns or whole rows of up to 32768.
 *
 * `int8`: code = clamp(round_half_even(x / scale) + zeroPoint), x = (code - zeroPoint) * scale, one scale per token (row of x) or for all of
 * x. Symmetric: scale = absmax / 127, codes -127 … 127, zero point 0. Else codes -128 … 127, scale = (max - min) / 255 over the range with
 * 0, zeroPoint = round(-min / scale) - 128. Found from each input, or fixed: `static`, per tensor. A row with NaN gives NaN.
 *
 * `llm-int8` (Dettmers et al. 2022, LLM.int8(); bitsandbytes): columns of x with any |x| >= threshold are multiplied in float32 with the
 * dequantized weights, and are 0 in the rest, which is `int8` per token and symmetric with a scale from the values below the threshold.
 * 0: no column is taken out. bitsandbytes' default is 6.
 */
export type InputQuant =
  | { kind: 'int8'; per: 'tensor' | 'token'; symmetric: boolean; static?: { scale: number; zeroPoint: number } }
  | { kind: 'llm-int8'; threshold: number };

/** A weight in use: `y = x W^T + bias`. */
export interface Linear {
  weight: CompressedTensor;
  /** Length `out`. */
  bias?: Float32Array;
  input?: InputQuant;
}
