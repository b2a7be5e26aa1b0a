/**
 * Types of GPTQ.
 * @module
 */
import type { AffineOpts, QuantReport } from '@lmq/quant-core';
import type { Backend, Handle, LongCallOpts, Tensor } from '@lmq/tensor';

export interface GptqOpts extends AffineOpts, LongCallOpts {
  /** Quantize columns in the order of falling diag(H). Default false. */
  actOrder?: boolean;
  /** Fit every group's scale to the original weights, before the sweep. With `actOrder` this keeps groups in order. Default false. */
  staticGroups?: boolean;
  /** Added to diag(H), as a part of its mean. Default 0.01. */
  dampPercent?: number;
  /** Added to `dampPercent` while H cannot be factored. Default 0.01; 0 goes straight to the diagonal floor. */
  dampIncrement?: number;
  /** Columns between two updates of the whole matrix. Changes speed, not the result beyond float order. Default 128. */
  blockSize?: number;
  /** Where the arithmetic happens. Default kernels-js. */
  backend?: Backend;
}

export interface GptqReport extends QuantReport {
  method: 'gptq';
  /** Why the result is plain round to nearest instead: H could not be factored with any damping. Null when it is not. */
  fallback: 'rtn' | null;
  /** Damping used, or last tried. */
  dampPercent: number;
  /** Diagonal floor used on top of it, 0 when none was needed. */
  diagonalFloor: number;
  /** Inputs that were always zero in calibration: their weights are zeroed. */
  deadColumns: number;
  /** Σ (w - q)² / (2 U_ii²) of the sweep, half of tr(E H Eᵀ) with the damped H. Absent after a fallback. */
  loss?: number;
  /** Variant of the backend: results are the same bytes for the same variant. */
  backend: string;
}

/** Statistics that GPTQ needs. */
export interface GptqStats {
  /** [in, in], a tensor or a handle of `opts.backend`. */
  hessian: Tensor | Handle;
}
