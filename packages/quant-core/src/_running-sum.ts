/**
 * Sums of products over calibration sequences: what Hessians and cross terms share.
 *
 * Sequences are added one at a time, in tiles of 512 tokens, straight into the sum: the bytes depend on the sequences and their order, not
 * on how they came in batches, and no second matrix is needed (14 336 wide, one takes 822 MB). Merging two sums adds them, which agrees with
 * one that saw all sequences to float32 rounding. Accumulates in float32 from tile to tile (within a tile: the backend's own accumulators).
 * @module
 */
import { type Backend, type Handle, LmqError, type Matrix, type Scope } from '@lmq/tensor';

/** Tokens per product. */
const TILE = 512;

/** A sum in a backend's memory: one [width, width] float32 matrix. */
export interface RunningSum {
  readonly backend: Backend;
  readonly width: number;
  readonly tokens: number;
  readonly sequences: number;
  /** Not scaled. Belongs to the running sum. */
  readonly sum: Handle;
  /**
   * The sum times 2 / sequences, whole: of a Hessian, both triangles.
   * @throws LmqError `calibration/short` when no token was seen
   */
  read(): Promise<Matrix>;
  dispose(): void;
}

/**
 * Starts a sum.
 * @param addTile adds what a tile of the inputs contributes; frees what it makes
 */
export function createRunningSum<Inputs extends [Handle, ...Handle[]]>(
  backend: Backend,
  width: number,
  op: string,
  addTile: (s: Scope, sum: Handle, ...tiles: Inputs) => void,
): RunningSum & { add(...inputs: Inputs): void; merge(other: RunningSum): void } {
  const s = backend.scope();
  const sum = s.alloc(width, width);
  let tokens = 0;
  let sequences = 0;
  const check = (what: string, expected: unknown, found: unknown) => {
    if (expected !== found) throw new LmqError('argument/shape', what, { op, expected, found });
  };
  const shape = ({ rows, cols }: Handle) => `${rows} x ${cols}`;
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
    add(...inputs) {
      const last = inputs[inputs.length - 1]!;
      check('the width differs', width, last.cols);
      for (const x of inputs) check('the inputs differ in shape', shape(last), shape(x));
      for (let from = 0; from < last.rows; from += TILE) {
        const tiles = inputs.map((x) => s.view(x, [from, Math.min(from + TILE, last.rows)])) as Inputs;
        addTile(s, sum, ...tiles);
        for (const tile of tiles) s.free(tile);
      }
      tokens += last.rows;
      sequences++;
    },
    merge(other) {
      check('the width differs', width, other.width);
      s.addTo(sum, other.sum);
      tokens += other.tokens;
      sequences += other.sequences;
    },
    async read() {
      if (tokens === 0)
        throw new LmqError('calibration/short', 'no token was seen', { op, hint: 'Add calibration sequences before reading.' });
      return scaleSum(await s.read(sum), sequences);
    },
    dispose: () => s.dispose(),
  };
}

/** A sum over `sequences`, in place, as `read` gives it: for sums that were saved. */
export function scaleSum(sum: Matrix, sequences: number): Matrix {
  const factor = 2 / sequences;
  for (let i = 0; i < sum.data.length; i++) sum.data[i]! *= factor;
  return sum;
}
