/**
 * Types of the quantization core.
 * @module
 */
import type { Affine, CompressedTensor, FloatFormat, Linear, Lut, Parts, Tensor } from '@lmq/tensor';
import type { PresetName } from './presets.js';

/** What shares a scale: the whole tensor, an output row, or a group of input columns of a row. */
export type Granularity = 'tensor' | 'channel' | 'group';

/** Search for a narrower range that lowers the sum of |error| ** norm. The defaults are GPTQ's. */
export interface MseClip {
  method: 'mse';
  /** Exponent. Default 2.4. */
  norm?: number;
  /** Candidates are `1 - i / grid` of the range. Default 100. */
  grid?: number;
  /** Candidates tried: `maxShrink * grid`. Default 0.8. */
  maxShrink?: number;
  /** Stop after so many candidates in a row that are no better. Default: try all. */
  patience?: number;
  /** Asymmetric: with each candidate, also try the integer on the other side of the ideal zero point (GPTQModel, at 2 bits). Default false. */
  adjacentZeroPoints?: boolean;
}

/**
 * The search of `mse` with each column's error weighted by its importance, E[x²] of the layer's input. Names and defaults are those of
 * llm-compressor's observer `imatrix_mse`.
 */
export interface ImatrixClip {
  method: 'imatrix';
  /** Exponent. Default 3. */
  norm?: number;
  /** Candidates are `1 - i / grid` of the range. Default 20. */
  grid?: number;
  /** Candidates tried: `maxShrink * grid + 1`. Default 0.95. */
  maxShrink?: number;
  /** Stop after so many candidates in a row that are no better, block by block; 0: try all. Default 5. */
  patience?: number;
}

/** Magnitudes beyond a percentile of |w| are clipped. For blocks of many weights: of 128, the 99.9th is between the two largest. */
export interface PercentileClip {
  method: 'percentile';
  /** In (0, 100]. Default 99.9. */
  percentile?: number;
}

/** Magnitudes are clipped where their histogram loses the least information: see `klThreshold`. For blocks of thousands of weights. */
export interface KlClip {
  method: 'kl';
  /** Default 2048, from 0 to the largest magnitude. */
  bins?: number;
}

/** How the range of a block becomes narrower than its minimum and maximum. */
export type ClipOpts = { method: 'minmax' } | MseClip | ImatrixClip | PercentileClip | KlClip;
export type ClipMethod = ClipOpts['method'];

/** {@link ClipOpts} with every default filled in. */
export type Clip = { method: 'minmax' } | Required<MseClip> | Required<ImatrixClip> | Required<PercentileClip> | Required<KlClip>;

/** A uniform integer grid: `w = (code - zero) * scale`. */
export interface AffineOpts {
  /** 1 to 8. */
  bits: number;
  /** Zero point fixed at `2 ** (bits - 1)` and not stored. Default false. */
  symmetric?: boolean;
  /**
   * Three values instead of a uniform grid, a negative one, zero and a positive one, at the ends of the range (IST-DASLab/gptq, `trits`);
   * `symmetric`: equally far from zero. Stored in 2 bits; `preset` plays no part. Default false.
   */
  trits?: boolean;
  /** Input columns per scale; must divide the row. -1: one scale per row. Default -1. */
  groupSize?: number;
  /** Default `group` when `groupSize` is given, else `channel`. */
  granularity?: Granularity;
  /** Whose rule turns a range into a scale. Default `gptq`. */
  preset?: PresetName;
  /** How the range of a block is found; a name alone stands for its defaults. Default `minmax`: the minimum and the maximum. */
  clip?: ClipMethod | ClipOpts;
  /** How scales are stored; they are rounded to it before they are used. Default `fp16`. */
  scaleFormat?: FloatFormat;
  /** Reproduce known defects of the published code of the preset (and method). Default false. */
  referenceCompat?: boolean;
}

/** {@link AffineOpts} checked against a shape, with every default filled in. Plain data. */
export interface Scheme {
  bits: number;
  symmetric: boolean;
  trits: boolean;
  granularity: Granularity;
  /** Rows and columns of a block of weights that shares a scale. */
  block: [rows: number, cols: number];
  /** Scales per row. */
  groups: number;
  preset: PresetName;
  clip: Clip;
  scaleFormat: FloatFormat;
  referenceCompat: boolean;
}

/**
 * Scales and zero points of a matrix, `[rows, groups]` row-major (`[1, 1]` per tensor). Scales already have their stored precision. Of trits:
 * the positive values are the scales, the negative ones the zero points.
 */
export interface AffineParams {
  scales: Float32Array;
  /** Integers in 0 … 2 ** bits - 1, but for trits. */
  zeroPoints: Float32Array;
  rows: number;
  groups: number;
}

/** What every quantization method reports. */
export interface QuantReport {
  method: string;
  bits: number;
  /** -1: one scale per row (or per tensor). */
  groupSize: number;
  symmetric: boolean;
  /** Present when weights are trits. */
  trits?: true;
  /** Everything counted: codes, scales, zero points, group indices. */
  bitsPerWeight: number;
  /** ‖W − Ŵ‖ / ‖W‖, Frobenius. */
  relativeError: number;
  /** tr(E H Eᵀ) / tr(W H Wᵀ), E = W − Ŵ, over at most 256 evenly spaced rows. Present when a Hessian was given. */
  proxyLoss?: number;
  seconds: number;
}

/** How trits are stored: one table, or parts where groups have tables of their own. */
export type Trits = Lut | Parts;

/** A weight, affine unless said otherwise, and how it came about. */
export interface Quantized<R extends QuantReport = QuantReport, W extends CompressedTensor = Affine> {
  weight: W;
  report: R;
}

/** Statistics that a linear method may use. */
export interface LinearStats {
  /** H = Σ X Xᵀ up to a factor, [in, in]. */
  hessian?: Tensor;
  /** Fisher information of each weight: Σ of the squared gradients of a loss, up to a factor, [out, in]. */
  fisher?: Tensor;
}

/** What a linear method returns: the linear with its weight replaced, everything else kept. */
export interface QuantizedLinear<R extends QuantReport = QuantReport> {
  linear: Linear;
  report: R;
}
