/**
 * Hessian of a linear layer's reconstruction error: H = (2 / sequences) Σ Xᵀ X over calibration sequences X [tokens, in]
 * (IST-DASLab/gptq). The factor changes no method's result, because damping is relative to the mean of the diagonal.
 *
 * Sequences are added one at a time, in tiles of 512 tokens, straight into the sum: the bytes depend on the sequences and their order, not
 * on how they came in batches, and no second matrix is needed (14 336 wide, one takes 822 MB). Merging two Hessians adds their sums, which
 * agrees with one that saw all sequences to float32 rounding. Accumulates in float32 from tile to tile (within a tile: the backend's own
 * accumulators).
 * @module
 */
import { type Backend, type Handle, LmqError, type Matrix } from '@lmq/tensor';

/** Tokens per rank-k update. */
const TILE = 512;

/** A running Hessian in a backend's memory. */
export interface Hessian {
  readonly backend: Backend;
  readonly width: number;
  readonly tokens: number;
  readonly sequences: number;
  /** Σ Xᵀ X, not scaled. Belongs to the Hessian. */
  readonly sum: Handle;
  /**
   * Adds one sequence.
   * @param x [tokens, width] of the same backend; it may be freed afterwards
   */
  add(x: Handle): void;
  /** Adds what another Hessian of the same backend and width has seen; it is left as it is. */
  merge(other: Hessian): void;
  /**
   * H, both triangles.
   * @throws LmqError `calibration/short` when no token was seen
   */
  read(): Promise<Matrix>;
  dispose(): void;
}

/**
 * Starts a Hessian. Memory: one [width, width] float32 matrix.
 * @param width input columns of the layer
 */
export function createHessian(backend: Backend, width: number): Hessian {
  const s = backend.scope();
  const sum = s.alloc(width, width);
  let tokens = 0;
  let sequences = 0;
  const check = (cols: number) => {
    if (cols !== width) throw new LmqError('argument/shape', 'the width differs', { op: 'hessian', expected: width, found: cols });
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
    add(x) {
      check(x.cols);
      for (let from = 0; from < x.rows; from += TILE) {
        const tile = s.view(x, [from, Math.min(from + TILE, x.rows)]);
        s.syrk(sum, tile, { alpha: 1, beta: 1 });
        s.free(tile);
      }
      tokens += x.rows;
      sequences++;
    },
    merge(other) {
      check(other.width);
      s.addTo(sum, other.sum);
      tokens += other.tokens;
      sequences += other.sequences;
    },
    async read() {
      if (tokens === 0) {
        throw new LmqError('calibration/short', 'no token was seen', { op: 'hessian', hint: 'Add calibration sequences before reading.' });
      }
      return scaleSum(await s.read(sum), sequences);
    },
    dispose: () => s.dispose(),
  };
}

/** Σ Xᵀ X over `sequences`, in place, as `read` of a Hessian gives it: for sums that were saved. */
export function scaleSum(sum: Matrix, sequences: number): Matrix {
  const factor = 2 / sequences;
  for (let i = 0; i < sum.data.length; i++) sum.data[i]! *= factor;
  return sum;
}
