/**
 * OBS sweep, the inner loop of GPTQ (Frantar et al. 2023, algorithm 1): columns are quantized in order, and the error of each is spread
 * over the columns after it. Rows are independent. Single float32 operations (multiply, then subtract, each rounded), no accumulators, so
 * that backends that compute in float32 agree to the bit. rows * columns * blockEnd / 2 multiplications.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';

const fround = Math.fround;

/**
 * For each column i in [start, end): q = grid(w_i), e = (w_i - q) / U[i,i], w_j -= e U[i,j] for j in (i, blockEnd), w_i = q.
 * @param w [rows, in], overwritten
 * @param u [in, in], upper triangular, H⁻¹ = Uᵀ U
 * @param errors [rows, end - start], receives e
 * @param codes [rows, end - start]
 * @param scales [rows, 1]
 * @param zeroPoints [rows, 1], integers
 */
export function obsSweep(
  w: Mat<Float32Array>,
  u: Mat<Float32Array>,
  errors: Mat<Float32Array>,
  codes: Mat<Uint8Array>,
  scales: Mat<Float32Array>,
  zeroPoints: Mat<Float32Array>,
  maxCode: number,
  start: number,
  end: number,
  blockEnd: number,
): void {
  const weights = w.buffer;
  const factor = u.buffer;
  for (let r = 0; r < w.rows; r++) {
    const row = w.offset + r * w.stride;
    const scale = scales.buffer[scales.offset + r * scales.stride]!;
    const zeroPoint = zeroPoints.buffer[zeroPoints.offset + r * zeroPoints.stride]!;
    const errorsTo = errors.offset + r * errors.stride - start;
    const codesTo = codes.offset + r * codes.stride - start;
    for (let i = start; i < end; i++) {
      const rowU = u.offset + i * u.stride;
      const value = weights[row + i]!;
      const code = gridCode(value, scale, zeroPoint, maxCode);
      const q = gridValue(code, scale, zeroPoint);
      const error = fround(fround(value - q) / factor[rowU + i]!);
      codes.buffer[codesTo + i] = code;
      errors.buffer[errorsTo + i] = error;
      weights[row + i] = q;
      for (let j = i + 1; j < blockEnd; j++) weights[row + j] = fround(weights[row + j]! - fround(error * factor[rowU + j]!));
    }
  }
}
