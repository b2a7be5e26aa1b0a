/**
 * SwiGLU (Shazeer 2020): silu(gate) * up, silu(x) = x / (1 + e^-x). Double inside, one rounding to float32.
 * @module
 */
import type { Mat } from '@lmq/tensor';

/** All of one shape. */
export function swiglu(out: Mat<Float32Array>, gate: Mat<Float32Array>, up: Mat<Float32Array>): void {
  for (let r = 0; r < out.rows; r++) {
    const g = gate.offset + r * gate.stride;
    const u = up.offset + r * up.stride;
    const to = out.offset + r * out.stride;
    for (let c = 0; c < out.cols; c++) {
      const x = gate.buffer[g + c]!;
      out.buffer[to + c] = (x / (1 + Math.exp(-x))) * up.buffer[u + c]!;
    }
  }
}
