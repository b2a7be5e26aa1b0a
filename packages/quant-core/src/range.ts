/**
 * Range of a block of weights: the input of every scale convention.
 * @module
 */

/** Least and greatest value, and the first value of largest magnitude (row by row) with its sign. */
export interface Range {
  min: number;
  max: number;
  signedMax: number;
}

/** A strided block: element (r, c) is `data[offset + r * rowStride + c * colStride]`. */
export interface StridedBlock {
  data: Float32Array;
  offset: number;
  rows: number;
  rowStride: number;
  cols: number;
  colStride: number;
}

/** Writes the range of a block that is not empty into `out` and returns it. */
export function rangeOf(b: StridedBlock, out: Range): Range {
  const { data, rows, cols, colStride } = b;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let r = 0; r < rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < cols; c++, at += colStride) {
      const v = data[at]!;
      if (v < min) min = v;
      if (v > max) max = v;
    }
  }
  out.min = min;
  out.max = max;
  out.signedMax = -min > max ? min : -min < max ? max : firstOf(b, max);
  return out;
}

/** Both ends are equally far from zero: the one that comes first. */
function firstOf(b: StridedBlock, magnitude: number): number {
  for (let r = 0; r < b.rows; r++) {
    let at = b.offset + r * b.rowStride;
    for (let c = 0; c < b.cols; c++, at += b.colStride) if (Math.abs(b.data[at]!) === magnitude) return b.data[at]!;
  }
  return magnitude;
}
