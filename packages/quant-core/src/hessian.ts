/**
 * Hessian of a linear layer's reconstruction error: H = (2 / sequences) Σ Xᵀ X over calibration sequences X [tokens, in]
 * (IST-DASLab/gptq). The factor changes no method's result, because damping is relative to the mean of the diagonal.
 * @module
 */
import type { Backend, Handle } from '@lmq/tensor';
import { createRunningSum, type RunningSum } from './_running-sum.js';

export { scaleSum } from './_running-sum.js';

/** A running Hessian in a backend's memory; `sum` is Σ Xᵀ X. */
export interface Hessian extends RunningSum {
  /**
   * Adds one sequence.
   * @param x [tokens, width] of the same backend; it may be freed afterwards
   */
  add(x: Handle): void;
  /** Adds what another Hessian of the same backend and width has seen; it is left as it is. */
  merge(other: Hessian): void;
}

/**
 * Starts a Hessian. Memory: one [width, width] float32 matrix.
 * @param width input columns of the layer
 */
export function createHessian(backend: Backend, width: number): Hessian {
  return createRunningSum(backend, width, 'hessian', (s, sum, x: Handle) => s.syrk(sum, x, { alpha: 1, beta: 1 }));
}
