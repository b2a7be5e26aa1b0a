/**
 * Quantizes to an affine grid and decodes, group by group: code = clamp(round_half_even(w / scale) + zero, 0, maxCode), value =
 * (code - zero) * scale. Single float32 operations throughout; no accumulators.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';

/**
 * @param out receives the values, w's shape
 * @param codes receives the codes, w's shape, or null
 * @param scales [rows, groups]; a scale of 0 decodes its whole group to 0
 * @param zeroPoints [rows, groups], integers
 * @param groupSize columns per group; the last group may be shorter
 */
export function fakeQuant(
  out: Mat<Float32Array>,
  codes: Mat<Uint8Array> | null,
  w: Mat<Float32Array>,
  scales: Mat<Float32Array>,
  zeroPoints: Mat<Float32Array>,
  groupSize: number,
  maxCode: number,
): void {
  for (let r = 0; r < w.rows; r++) {
    const from = w.offset + r * w.stride;
    const to = out.offset + r * out.stride;
    const codesTo = codes ? codes.offset + r * codes.stride : 0;
    for (let g = 0, c0 = 0; c0 < w.cols; g++, c0 += groupSize) {
      const scale = scales.buffer[scales.offset + r * scales.stride + g]!;
      const zeroPoint = zeroPoints.buffer[zeroPoints.offset + r * zeroPoints.stride + g]!;
      const end = Math.min(c0 + groupSize, w.cols);
      for (let c = c0; c < end; c++) {
        const code = gridCode(w.buffer[from + c]!, scale, zeroPoint, maxCode);
        if (codes) codes.buffer[codesTo + c] = code;
        out.buffer[to + c] = gridValue(code, scale, zeroPoint);
      }
    }
  }
}
