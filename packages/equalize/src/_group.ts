/**
 * What the searches share: checks of a group, scaling columns, rounding to a grid in a backend's memory.
 * @module
 */
import { type AffineOpts, checkFinite, fitScheme, resolveScheme, type Scheme } from '@lmq/quant-core';
import { contiguous, type Handle, LmqError, type Matrix, matrix, matrixShape, type Scope, type Tensor } from '@lmq/tensor';

/**
 * The common width of the linears and of their statistics.
 * @throws LmqError `argument/shape`, `argument/value` (NaN or infinite weights)
 */
export function groupWidth(weights: readonly Tensor[], perChannel: ArrayLike<number>, op: string): number {
  if (!weights.length) throw new LmqError('argument/shape', 'the group has no linear', { op, expected: 'at least 1', found: 0 });
  const width = matrixShape(weights[0]!, op)[1];
  for (const w of weights) {
    const [, cols] = matrixShape(w, op);
    if (cols !== width) throw new LmqError('argument/shape', 'linears of a group differ in width', { op, expected: width, found: cols });
    checkFinite(w, 'a weight', op);
  }
  if (perChannel.length !== width) {
    throw new LmqError('argument/shape', 'the statistics do not fit the weights', { op, expected: width, found: perChannel.length });
  }
  return width;
}

/**
 * Magnitudes of channels as float32.
 * @throws LmqError `argument/value` for what is negative or not finite
 */
export function magnitudes(values: ArrayLike<number>, what: string, op: string): Float32Array {
  const out = Float32Array.from(values);
  const bad = out.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY));
  if (bad < 0) return out;
  throw new LmqError('argument/value', `${what} is not a magnitude`, { op, found: `${values[bad]} in channel ${bad}` });
}

/** A copy with each column multiplied. */
export function scaleColumns(w: Tensor, scales: ArrayLike<number>): Matrix {
  const [rows, cols] = matrixShape(w, 'scaleColumns');
  const out = Float32Array.from(contiguous(w));
  for (let at = 0; at < out.length; at += cols) for (let c = 0; c < cols; c++) out[at + c]! *= scales[c]!;
  return matrix(out, rows, cols);
}

/**
 * A grid as the searches use it: minimum and maximum of each group.
 * @throws LmqError `argument/option`
 */
export function searchScheme(grid: AffineOpts, rows: number, cols: number, op: string): Scheme {
  if (grid.trits) {
    throw new LmqError('argument/option', 'trits are not a grid that scales can be searched for', {
      op,
      hint: 'Use bits 2 without trits.',
    });
  }
  return resolveScheme({ ...grid, clip: 'minmax' }, rows, cols, op);
}

/** Rounds a matrix to its scheme's grid; `w` is the same matrix in the backend. */
export function roundToGrid(s: Scope, w: Handle, host: Matrix, scheme: Scheme): Handle {
  const { scales, zeroPoints, groups } = fitScheme(host, scheme);
  const whole = scheme.granularity === 'tensor'; // one scale, said again for each row
  const perRow = (values: Float32Array) => s.upload(matrix(whole ? new Float32Array(w.rows).fill(values[0]!) : values, w.rows, groups));
  const grid = { scales: perRow(scales), zeroPoints: perRow(zeroPoints), bits: scheme.bits };
  const out = s.fakeQuant(w, grid, scheme.block[1]);
  s.free(grid.scales);
  s.free(grid.zeroPoints);
  return out;
}
