/**
 * Hessian of a linear layer's reconstruction error: H = (2 / sequences) Σ Xᵀ X over calibration sequences X [tokens, in]
 * (IST-DASLab/gptq). The factor changes no method's result, because damping is relative to the mean of the diagonal.
 *
 * Each sequence is summed on its own, in tiles of 512 tokens, and then added: a sequence gives the same bytes however sequences are
 * batched, and Hessians of single sequences merged in order give the same bytes as one that saw them all. Merging Hessians of several
 * sequences agrees to float32 rounding. Accumulates in float32 (within a tile: the backend's own accumulators).
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
 * Starts a Hessian. Memory: two [width, width] float32 matrices.
 * @param width input columns of the layer
 */
export function createHessian(backend: Backend, width: number): Hessian {
  const s = backend.scope();
  const sum = s.alloc(width, width);
  const own = s.alloc(width, width);
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
        s.syrk(own, tile, { alpha: 1, beta: from === 0 ? 0 : 1 });
        s.free(tile);
      }
      if (x.rows > 0) s.addTo(sum, own);
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
      const h = await s.read(sum);
      const factor = 2 / sequences;
      for (let i = 0; i < h.data.length; i++) h.data[i]! *= factor;
      return h;
    },
    dispose: () => s.dispose(),
  };
}
