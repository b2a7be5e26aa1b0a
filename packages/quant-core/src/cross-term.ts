/**
 * Cross term of asymmetric calibration (Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
 * arXiv 2504.02692): C = (2 / sequences) Σ (X̃ − X)ᵀ X, where X [tokens, in] are a layer's inputs in the model quantized so far and X̃
 * those of the float model for the same tokens. It has the factor of `createHessian`, so that both can be used together.
 *
 * Sums as the Hessian does: sequence by sequence, in tiles of 512 tokens, straight into the sum. C is not symmetric.
 * @module
 */
import { type Backend, type Handle, LmqError, type Matrix } from '@lmq/tensor';
import { scaleSum } from './hessian.js';

/** Tokens per product. */
const TILE = 512;

/** A running cross term in a backend's memory. */
export interface CrossTerm {
  readonly backend: Backend;
  readonly width: number;
  readonly tokens: number;
  readonly sequences: number;
  /** Σ (X̃ − X)ᵀ X, not scaled: goes with the `sum` of a Hessian. Belongs to the cross term. */
  readonly sum: Handle;
  /**
   * Adds one sequence.
   * @param float [tokens, width] inputs in the float model, of the same backend; may be freed afterwards, as may `quantized`
   * @param quantized [tokens, width] inputs of the same tokens in the quantized model: what the Hessian gets
   */
  add(float: Handle, quantized: Handle): void;
  /** Adds what another cross term of the same backend and width has seen; it is left as it is. */
  merge(other: CrossTerm): void;
  /**
   * C, rows by the difference, columns by the quantized model's input.
   * @throws LmqError `calibration/short` when no token was seen
   */
  read(): Promise<Matrix>;
  dispose(): void;
}

/**
 * Starts a cross term. Memory: one [width, width] float32 matrix.
 * @param width input columns of the layer
 */
export function createCrossTerm(backend: Backend, width: number): CrossTerm {
  const s = backend.scope();
  const sum = s.alloc(width, width);
  let tokens = 0;
  let sequences = 0;
  const check = (what: string, expected: unknown, found: unknown) => {
    if (expected !== found) throw new LmqError('argument/shape', what, { op: 'crossTerm', expected, found });
  };
  return {
    backend,
    width,
    sum,
    get tokens() {
      return tokens;
    },
    get sequences() {
      return sequences;
    },
    add(float, quantized) {
      check('the width differs', width, quantized.cols);
      check('the two inputs differ in shape', `${quantized.rows} x ${quantized.cols}`, `${float.rows} x ${float.cols}`);
      for (let from = 0; from < quantized.rows; from += TILE) {
        const to = Math.min(from + TILE, quantized.rows);
        const wanted = s.view(float, [from, to]);
        const given = s.view(quantized, [from, to]);
        const difference = s.copy(wanted);
        s.addTo(difference, given, -1);
        s.gemm(difference, given, { transposeA: true, beta: 1, out: sum });
        for (const h of [difference, wanted, given]) s.free(h);
      }
      tokens += quantized.rows;
      sequences++;
    },
    merge(other) {
      check('the width differs', width, other.width);
      s.addTo(sum, other.sum);
      tokens += other.tokens;
      sequences += other.sequences;
    },
    async read() {
      if (tokens === 0) {
        throw new LmqError('calibration/short', 'no token was seen', {
          op: 'crossTerm',
          hint: 'Add calibration sequences before reading.',
        });
      }
      return scaleSum(await s.read(sum), sequences);
    },
    dispose: () => s.dispose(),
  };
}
