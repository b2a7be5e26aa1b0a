/**
 * Types of GPTQ.
 * @module
 */
import type { AffineOpts, QuantReport, Table4Name } from '@lmq/quant-core';
import type { Backend, Handle, LongCallOpts, Tensor } from '@lmq/tensor';

export interface GptqOpts extends AffineOpts, LongCallOpts {
  /**
   * Round to a table of 16 values times the largest magnitude of each group, in float32, instead of a uniform grid: NF4 or FP4 of
   * bitsandbytes, or AF4. `bits` is then 4, and of the uniform grid's options only `groupSize` is left. Default: a uniform grid.
   */
  table?: Table4Name;
  /** Quantize columns in the order of falling diag(H). Default false. */
  actOrder?: boolean;
  /**
   * Quantize groups in the order of their falling largest diag(H), and columns inside a group by falling diag(H): most of what `actOrder`
   * gains, with groups that stay in order. Excludes `actOrder`. Default false.
   */
  groupAware?: boolean;
  /**
   * Fit every group's scale to the original weights, before the sweep. With `actOrder` this keeps groups in order; `ordered` cuts them from
   * the ordered columns instead, which a group index stores. Default false.
   */
  staticGroups?: boolean | 'ordered';
  /** Added to diag(H), as a part of its mean. Default 0.01. */
  dampPercent?: number;
  /** Added to `dampPercent` while H cannot be factored. Default 0.01; 0 goes straight to the diagonal floor. */
  dampIncrement?: number;
  /** Columns between two updates of the whole matrix. Changes speed, not the result beyond float order. Default 128. */
  blockSize?: number;
  /** GPTAQ: aim at the outputs of the float model instead of those of the float layer on quantized inputs. Default: plain GPTQ. */
  gptaq?: GptaqOpts;
  /** FOEM: take back part of what the sweep has added to each weight. Excludes `gptaq`. Default: plain GPTQ. */
  foem?: FoemOpts;
  /** Where the arithmetic happens. Default kernels-js. */
  backend?: Backend;
}

/** Asymmetric calibration. */
export interface GptaqOpts {
  /**
   * [in, in], from `createCrossTerm`, with the same factor as H (both read, or both `sum`): a tensor or a handle of `opts.backend`. It is not
   * changed.
   */
  crossTerm: Tensor | Handle;
  /** Share of the difference to make up for: 0 is plain GPTQ, 1 all of it. Default 0.25. */
  alpha?: number;
}

/** First-order error compensation. */
export interface FoemOpts {
  /** Part that is taken back: 0 is plain GPTQ. Default 0.2. */
  beta?: number;
}

export interface GptqReport extends QuantReport {
  method: 'gptq';
  /** Present when weights are values of a table. */
  table?: Table4Name;
  /** Why the result is plain round to nearest instead: H could not be factored with any damping. Null when it is not. */
  fallback: 'rtn' | null;
  /** Damping used, or last tried. */
  dampPercent: number;
  /** Diagonal floor used on top of it, 0 when none was needed. */
  diagonalFloor: number;
  /** Inputs that were always zero in calibration: their weights are zeroed. */
  deadColumns: number;
  /** Σ (w - q)² / (2 U_ii²) of the sweep, half of tr(E H Eᵀ) with the damped H unless `gptaq` or `foem` is given. Absent after a fallback. */
  loss?: number;
  /**
   * With `gptaq`: by how much ‖W X̃ − Ŵ X‖² exceeds ‖W X̃ − W X‖², that of the float layer on the same inputs, relative to tr(W H Wᵀ) and
   * over the rows of `proxyLoss`. Negative: the quantized layer makes up for errors before it.
   */
  asymmetricLoss?: number;
  /** Variant of the backend: results are the same bytes for the same variant. */
  backend: string;
}

/** Statistics that GPTQ needs. */
export interface GptqStats {
  /** [in, in], a tensor or a handle of `opts.backend`. */
  hessian: Tensor | Handle;
}
