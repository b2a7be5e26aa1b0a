/**
 * Folding scales into weights, so that the function stays as it was: columns of the linears that read x are multiplied with s, and what makes
 * x is divided by s: the weight of a norm, or the rows and the bias of a linear.
 *
 * Exact but for the rounding of one product or quotient per number to float32: keep the results in float32 until they are quantized. Rounded
 * to bfloat16 again, a norm's weight would move by up to 1/256, on all tokens alike.
 * @module
 */
import { contiguous, LmqError, type Matrix, matrix, matrixShape, type Tensor } from '@lmq/tensor';
import { scaleColumns } from './_group.js';

/**
 * The weight of a linear that reads x, for an x that is divided by the scales.
 * @param w [out, in]
 * @param scales length in
 * @throws LmqError `argument/shape`; `argument/value` for scales that are not positive, or when a product overflows
 */
export function foldIntoColumns(w: Tensor, scales: ArrayLike<number>): Matrix {
  checkScales(scales, matrixShape(w, 'foldIntoColumns')[1], 'foldIntoColumns');
  return finite(scaleColumns(w, scales), 'foldIntoColumns');
}

/**
 * The weight of the linear that makes x, with its rows divided.
 * @param w [out, in]
 * @param scales length out
 * @throws LmqError as `foldIntoColumns`
 */
export function foldIntoRows(w: Tensor, scales: ArrayLike<number>): Matrix {
  const [rows, cols] = matrixShape(w, 'foldIntoRows');
  checkScales(scales, rows, 'foldIntoRows');
  const out = Float32Array.from(contiguous(w), (v, i) => v / scales[Math.floor(i / cols)]!);
  return finite(matrix(out, rows, cols), 'foldIntoRows');
}

/**
 * A vector divided: the bias of the linear that makes x, or a norm's weight.
 * @param plusOne the stored weight is the difference from 1 (Gemma): (1 + w) / s - 1. Default false
 * @throws LmqError as `foldIntoColumns`
 */
export function foldIntoVector(v: ArrayLike<number>, scales: ArrayLike<number>, opts: { plusOne?: boolean } = {}): Float32Array {
  checkScales(scales, v.length, 'foldIntoVector');
  const one = opts.plusOne ? 1 : 0;
  const out = Float32Array.from(v, (w, c) => (w + one) / scales[c]! - one);
  return finite(matrix(out, 1, out.length), 'foldIntoVector').data;
}

function checkScales(scales: ArrayLike<number>, length: number, op: string): void {
  if (scales.length !== length) {
    throw new LmqError('argument/shape', 'the scales do not fit the weight', { op, expected: length, found: scales.length });
  }
  for (let c = 0; c < length; c++) {
    if (scales[c]! > 0 && scales[c]! < Number.POSITIVE_INFINITY) continue;
    throw new LmqError('argument/value', 'a scale is not positive and finite', { op, found: `${scales[c]} in channel ${c}` });
  }
}

function finite(m: Matrix, op: string): Matrix {
  const bad = m.data.findIndex((v) => !Number.isFinite(v));
  if (bad < 0) return m;
  throw new LmqError('argument/value', 'a scaled weight is not finite', {
    op,
    found: `${m.data[bad]} at [${Math.floor(bad / m.shape[1]!)}, ${bad % m.shape[1]!}]`,
    hint: 'The weight was not finite, or the scales are extreme.',
  });
}
