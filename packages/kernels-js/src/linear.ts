/**
 * Multiplication with a compressed weight: y = x Wᵀ + bias. The weight stays compressed; a tile of rows is decoded, multiplied and
 * forgotten, so every layout works and memory stays small. Accumulator: double, ascending input column, the bias added last; one rounding
 * to float32. A row of y does not depend on how many rows x has.
 * @module
 */
import { byteLength, decodeRows, validate } from '@lmq/formats';
import type { Activations, Linear, Mat, OutlierCount } from '@lmq/tensor';
import { gemm } from './gemm.js';
import { quantizedInputLinear } from './quantized-input.js';
import { roundInput } from './round-input.js';

/** Decoded weights held at a time: 1 MiB, but at least 32 rows so that gemm can block. */
const TILE_ELEMENTS = 2 ** 18;
const MIN_TILE_ROWS = 32;

/** A linear and how its input is multiplied. */
export interface LoadedJsLinear extends Linear {
  activations: Activations;
  /** Of `llm-int8` input. */
  outliers?: OutlierCount;
}

/**
 * Checks a weight and counts its bytes. Nothing is copied: later changes to its arrays change the results.
 * @throws LmqError what `validate` throws
 */
export function loadLinear(linear: Linear, activations: Activations): { packed: LoadedJsLinear; bytes: number; outliers?: OutlierCount } {
  validate(linear.weight);
  const outliers = linear.input?.kind === 'llm-int8' ? { outliers: { columns: 0, of: 0 } } : {};
  const bytes = byteLength(linear.weight) + (linear.bias?.byteLength ?? 0);
  return { packed: { ...linear, activations, ...outliers }, bytes, ...outliers };
}

/** out [tokens, out] ← x [tokens, in] Wᵀ + bias. */
export function linear(out: Mat<Float32Array>, input: Mat<Float32Array>, loaded: LoadedJsLinear): void {
  const { weight, bias, activations } = loaded;
  const [rows, cols] = weight.shape;
  if (out.rows === 0) return;
  if (loaded.input && weight.kind === 'affine') {
    quantizedInputLinear(out, input, { ...loaded, weight, input: loaded.input });
    return;
  }
  const hasCodes = weight.kind === 'affine' || weight.kind === 'blocks';
  const x = activations !== 'float32' && hasCodes ? roundInput(input, activations) : input;
  if (bias) for (let r = 0; r < out.rows; r++) out.buffer.set(bias, out.offset + r * out.stride);
  const multiply = (buffer: Float32Array, from: number, to: number) => {
    const columns: Mat<Float32Array> = { ...window(out), offset: out.offset + from, cols: to - from };
    gemm(columns, x, { buffer, offset: 0, rows: to - from, cols, stride: cols }, false, true, 1, bias ? 1 : 0);
  };
  if (weight.kind === 'dense' && weight.data instanceof Float32Array) {
    multiply(weight.data, 0, rows); // nothing to decode
    return;
  }
  const step = Math.min(rows, Math.max(MIN_TILE_ROWS, Math.floor(TILE_ELEMENTS / Math.max(cols, 1))));
  const tile = new Float32Array(step * cols);
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(from + step, rows);
    decodeRows(weight, from, to, tile);
    multiply(tile, from, to);
  }
}

/** Only the fields of a matrix: what is passed in may be a larger object. */
function window({ buffer, offset, rows, cols, stride }: Mat<Float32Array>): Mat<Float32Array> {
  return { buffer, offset, rows, cols, stride };
}
