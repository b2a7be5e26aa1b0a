/**
 * OBS sweep to the nearest entry of a table: `obsSweep` for weights whose values are not evenly spaced (NF4, learned tables, trits). Single
 * float32 operations, as there. Per weight as many subtractions as the table has entries, besides those of the sweep.
 * @module
 */
import type { Mat } from '@lmq/tensor';

const fround = Math.fround;

/**
 * For each column i in [start, end): q = nearest entry to w_i, e = (w_i - q) / U[i,i], w_j -= e U[i,j] for j in (i, blockEnd), w_i = q.
 * @param w [rows, in], overwritten
 * @param u [in, in], upper triangular, H⁻¹ = Uᵀ U
 * @param errors [rows, end - start], receives e
 * @param codes [rows, end - start]
 * @param tables [rows, entries], in any order
 */
export function obsSweepTable(
  w: Mat<Float32Array>,
  u: Mat<Float32Array>,
  errors: Mat<Float32Array>,
  codes: Mat<Uint8Array>,
  tables: Mat<Float32Array>,
  start: number,
  end: number,
  blockEnd: number,
): void {
  const weights = w.buffer;
  const factor = u.buffer;
  for (let r = 0; r < w.rows; r++) {
    const row = w.offset + r * w.stride;
    const table = tables.offset + r * tables.stride;
    const errorsTo = errors.offset + r * errors.stride - start;
    const codesTo = codes.offset + r * codes.stride - start;
    for (let i = start; i < end; i++) {
      const rowU = u.offset + i * u.stride;
      const value = weights[row + i]!;
      const code = nearest(value, tables.buffer, table, tables.cols);
      const q = tables.buffer[table + code]!;
      const error = fround(fround(value - q) / factor[rowU + i]!);
      codes.buffer[codesTo + i] = code;
      errors.buffer[errorsTo + i] = error;
      weights[row + i] = q;
      for (let j = i + 1; j < blockEnd; j++) weights[row + j] = fround(weights[row + j]! - fround(error * factor[rowU + j]!));
    }
  }
}

/** Index of the first of the nearest entries; 0 for NaN and infinity. */
function nearest(w: number, entries: Float32Array, from: number, count: number): number {
  let least = Number.POSITIVE_INFINITY;
  let code = 0;
  for (let k = 0; k < count; k++) {
    const distance = Math.abs(fround(w - entries[from + k]!));
    if (distance < least) {
      least = distance;
      code = k;
    }
  }
  return code;
}
