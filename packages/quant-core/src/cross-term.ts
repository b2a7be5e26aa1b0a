/**
 * Cross term of asymmetric calibration (Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
 * arXiv 2504.02692): C = (2 / sequences) Σ (X̃ − X)ᵀ X, where X [tokens, in] are a layer's inputs in the model quantized so far and X̃
 * those of the float model for the same tokens. It has the factor of `createHessian`, so that both can be used together. C is not symmetric:
 * rows by the difference, columns by the quantized model's input.
 * @module
 */
import type { Backend, Handle } from '@lmq/tensor';
import { createRunningSum, type RunningSum } from './_running-sum.js';

/** A running cross term in a backend's memory; `sum`, Σ (X̃ − X)ᵀ X, goes with the `sum` of a Hessian. */
export interface CrossTerm extends RunningSum {
  /**
   * Adds one sequence.
   * @param float [tokens, width] inputs in the float model, of the same backend; may be freed afterwards, as may `quantized`
   * @param quantized [tokens, width] inputs of the same tokens in the quantized model: what the Hessian gets
   */
  add(float: Handle, quantized: Handle): void;
  /** Adds what another cross term of the same backend and width has seen; it is left as it is. */
  merge(other: CrossTerm): void;
}

/**
 * Starts a cross term. Memory: one [width, width] float32 matrix.
 * @param width input columns of the layer
 */
export function createCrossTerm(backend: Backend, width: number): CrossTerm {
  return createRunningSum(backend, width, 'crossTerm', (s, sum, float: Handle, quantized: Handle) => {
    const difference = s.copy(float);
    s.addTo(difference, quantized, -1);
    s.gemm(difference, quantized, { transposeA: true, beta: 1, out: sum });
    s.free(difference);
  });
}
