/**
 * Linears whose input is quantized (`Linear.input`): y = Σ_groups (s_t s_g Σ (q_x - z_x)(q_w - z_w)) + bias, the inner sums in exact
 * integers, all else in double and one rounding to float32. The codes of the input are those of `InputQuant`.
 *
 * LLM.int8() as in bitsandbytes 0.45 (backends/default/ops.py, autograd/_functions.py): outlier columns leave the integer product whole,
 * the scale of a row leaves out single outliers. Their codes are round(x * (127 / absmax)), ours round(x / (absmax / 127)), as in
 * all our grids: they differ where x lies within a rounding of the middle between two codes.
 * @module
 */
import { decodeRows, inputGrid, inputLimits, rint, scaleGrid, scaleValues, unpackRows, zeroPointValues } from '@lmq/formats';
import type { Affine, InputQuant, Mat, OutlierCount } from '@lmq/tensor';

const f = Math.fround;

/** Codes less their zero point, row-major, and a scale per row. */
interface QuantizedInput {
  codes: Float64Array;
  scales: Float64Array;
}

/** A linear whose input is quantized, with the count of `llm-int8`. */
export interface QuantizedInputLinear {
  weight: Affine;
  bias?: Float32Array;
  input: InputQuant;
  outliers?: OutlierCount;
}

/** out [tokens, out] ← x [tokens, in] Wᵀ + bias. */
export function quantizedInputLinear(out: Mat<Float32Array>, x: Mat<Float32Array>, w: QuantizedInputLinear): void {
  const { weight, input, outliers } = w;
  const columns = input.kind === 'llm-int8' && input.threshold > 0 ? outlierColumns(x, f(input.threshold)) : [];
  if (outliers) {
    outliers.columns += columns.length;
    outliers.of += x.cols;
  }
  const q = quantizeInput(x, input, columns);
  const groupSize = Math.min(weight.groupSize, x.cols);
  const [, groups] = scaleGrid(weight.scales, weight.shape);
  const scales = scaleValues(weight.scales);
  const zeros = zeroPointValues(weight, 0, scales.length);
  const rowBytes = weight.codes.length / weight.shape[0];
  const codes = new Uint8Array(x.cols);
  const decoded = new Float32Array(columns.length && x.cols);
  for (let r = 0; r < weight.shape[0]; r++) {
    unpackRows(weight.codes.subarray(r * rowBytes, (r + 1) * rowBytes), weight.bits, 1, x.cols, codes);
    if (columns.length) decodeRows(weight, r, r + 1, decoded);
    const first = Math.floor(r / weight.scales.block[0]) * groups;
    for (let t = 0; t < x.rows; t++) {
      let sum = 0;
      for (let g = 0, c = 0; g < groups; g++) {
        const end = Math.min(c + groupSize, x.cols);
        const zero = zeros[first + g]!;
        let whole = 0;
        for (; c < end; c++) whole += q.codes[t * x.cols + c]! * (codes[c]! - zero);
        sum += whole * scales[first + g]!;
      }
      sum *= q.scales[t]!;
      const from = x.offset + t * x.stride;
      for (const c of columns) sum += x.buffer[from + c]! * decoded[c]!;
      out.buffer[out.offset + t * out.stride + r] = sum + (w.bias ? w.bias[r]! : 0);
    }
  }
}

/** Columns with any |x| >= threshold, ascending. */
function outlierColumns(x: Mat<Float32Array>, threshold: number): number[] {
  const columns: number[] = [];
  for (let c = 0; c < x.cols; c++) {
    let t = 0;
    while (t < x.rows && !(Math.abs(x.buffer[x.offset + t * x.stride + c]!) >= threshold)) t++;
    if (t < x.rows) columns.push(c);
  }
  return columns;
}

function quantizeInput(x: Mat<Float32Array>, input: InputQuant, dropped: number[]): QuantizedInput {
  const int8 = input.kind === 'int8';
  const symmetric = !int8 || input.symmetric;
  const below = !int8 && input.threshold > 0 ? f(input.threshold) : Number.POSITIVE_INFINITY;
  const codes = new Float64Array(x.rows * x.cols);
  const scales = new Float64Array(x.rows);
  const fixed = int8 && input.per === 'tensor' ? (input.static ?? inputGrid(...range(x, 0, x.rows, below), symmetric)) : undefined;
  for (let t = 0; t < x.rows; t++) {
    const grid = fixed ?? inputGrid(...range(x, t, t + 1, below), symmetric);
    const [least, largest] = inputLimits(grid, symmetric);
    const from = x.offset + t * x.stride;
    let nan = false;
    scales[t] = grid.scale;
    for (let c = 0; c < x.cols; c++) {
      const v = x.buffer[from + c]!;
      nan ||= Number.isNaN(v);
      if (grid.scale !== 0) codes[t * x.cols + c] = Math.min(Math.max(rint(f(v / grid.scale)), least), largest);
    }
    if (nan || !Number.isFinite(grid.scale)) scales[t] = Number.NaN; // all that an integer cannot be
    for (const c of dropped) codes[t * x.cols + c] = 0;
  }
  return { codes, scales };
}

/** Least and greatest of the values of rows from … to whose magnitude is less than `below`, and 0. NaN where there is one. */
function range(x: Mat<Float32Array>, from: number, to: number, below: number): [min: number, max: number] {
  let min = 0;
  let max = 0;
  for (let t = from; t < to; t++) {
    const at = x.offset + t * x.stride;
    for (let c = 0; c < x.cols; c++) {
      const v = x.buffer[at + c]!;
      if (Math.abs(v) >= below && below !== Number.POSITIVE_INFINITY) continue;
      min = Math.min(min, v);
      max = Math.max(max, v);
    }
  }
  return [min, max];
}
