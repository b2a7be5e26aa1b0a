/**
 * Types of equalization: scales per input channel that move difficulty between what a linear is given and its weights.
 * @module
 */
import type { AffineOpts } from '@lmq/quant-core';
import type { Backend, Handle, LongCallOpts, Matrix, Tensor } from '@lmq/tensor';

/** A linear of a group and what it will be rounded to. */
export interface GroupLinear {
  /** [out, in], finite. */
  weight: Tensor;
  /** The grid of the method that quantizes it afterwards; its range search and trits are left aside. Absent: the linear stays float. */
  grid?: AffineOpts;
}

/** Linears that read the same input x, and what is known of x. */
export interface AwqGroup {
  linears: readonly GroupLinear[];
  stats: {
    /** Mean |x| of each channel, length in. */
    meanAbs: ArrayLike<number>;
    /** Σ xᵀx up to a factor, [in, in], a tensor or a handle of `opts.backend`. Judges where `outputError` is absent. */
    hessian?: Tensor | Handle;
  };
  /**
   * How far the output of what the group belongs to (attention, an MLP) is from the float output when these weights, in the order of
   * `linears`, take the place of theirs. Any measure; smaller is better. Default: the squared error of the group's own outputs.
   */
  outputError?: (weights: readonly Matrix[]) => Promise<number>;
}

export interface AwqScalesOpts extends LongCallOpts {
  /** Divide by the mean magnitude of the weights as well (AutoAWQ). Default false, as in the paper. */
  duoScaling?: boolean;
  /** Candidates: exponents 0, 1 / grid … (grid - 1) / grid. Default 20. */
  grid?: number;
  /** As the published code where it has a known flaw, see `awqScales`. Default false. */
  referenceCompat?: boolean;
  /** Where the arithmetic happens. Default kernels-js. */
  backend?: Backend;
}

export interface AwqScalesReport {
  method: 'awq';
  /** Exponent of the channel magnitudes that was chosen; null when no scaling was best. */
  ratio: number | null;
  duoScaling: boolean;
  /** What `outputError` says of the scales chosen. Without one: Σ tr(E H Eᵀ) / Σ tr(W H Wᵀ). */
  error: number;
  /** The same without scales, plainly rounded. Absent where it was not tried (`duoScaling` with `referenceCompat`). */
  plainError?: number;
  seconds: number;
}

export interface AwqClipOpts extends LongCallOpts {
  /** What the linear will be rounded to. */
  grid: AffineOpts;
  /** Scales that the columns of the weight were already multiplied with, the input then divided. Default: none. */
  scales?: ArrayLike<number>;
  /** Candidates are `1 - i / steps` of the largest magnitude. Default 20. */
  steps?: number;
  /** Candidates tried: `maxShrink * steps`. Default 0.5. */
  maxShrink?: number;
  backend?: Backend;
}

export interface AwqClipReport {
  method: 'awq-clip';
  /** Share of the groups that were clipped. */
  clipped: number;
  /** Σ of the groups' output errors, relative to what they are without clipping. */
  relativeError: number;
  seconds: number;
}

/** Linears that read the same input x, to be multiplied in 8 bits. */
export interface SmoothGroup {
  /** [out, in] each, finite. */
  linears: readonly Tensor[];
  stats: {
    /** Largest |x| of each channel, length in. */
    absMax: ArrayLike<number>;
    /** Some tokens of x, [tokens, in]; a search of alpha needs them. */
    sample?: Tensor;
  };
}

export interface SmoothQuantOpts extends LongCallOpts {
  /**
   * How much of the difficulty moves to the weights, 0 … 1, or `search`: the best of `alphas`. Default 0.5; {@link SMOOTHQUANT_ALPHA} has the
   * published values of model families.
   */
  alpha?: number | 'search';
  /** Default 0, 0.05 … 1. */
  alphas?: readonly number[];
  /** What shares a scale when the search rounds inputs to 8 bits, at run time: each token (O1), or the sample as a whole (O2, O3). Default token. */
  activations?: 'token' | 'tensor';
  /** As the published code: channels that were always zero get scales like others. Default false. */
  referenceCompat?: boolean;
  backend?: Backend;
}

export interface SmoothQuantReport {
  method: 'smoothquant';
  alpha: number;
  /** With a search: squared error of the outputs with inputs and weights in 8 bits, relative to the outputs. */
  error?: number;
  /** The same without scales. */
  plainError?: number;
  seconds: number;
}

/** What to do to the linears of a group and to what feeds them: multiply the columns of the former, divide the output of the latter. */
export interface Equalized<R> {
  /** Length in, positive and finite. */
  scales: Float32Array;
  report: R;
}
