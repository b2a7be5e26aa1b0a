/**
 * Gated linear units (Shazeer 2020): activation(gate) * up. SwiGLU with silu(x) = x / (1 + e^-x); GeGLU with the tanh approximation of gelu
 * (Hendrycks and Gimpel 2016). Double inside, one rounding to float32.
 * @module
 */
import type { GluActivation, Mat } from '@lmq/tensor';

const silu = (x: number) => x / (1 + Math.exp(-x));
const geluTanh = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));

/** All of one shape. */
export function glu(out: Mat<Float32Array>, gate: Mat<Float32Array>, up: Mat<Float32Array>, activation: GluActivation): void {
  const f = activation === 'silu' ? silu : geluTanh;
  for (let r = 0; r < out.rows; r++) {
    const g = gate.offset + r * gate.stride;
    const u = up.offset + r * up.stride;
    const to = out.offset + r * out.stride;
    for (let c = 0; c < out.cols; c++) out.buffer[to + c] = f(gate.buffer[g + c]!) * up.buffer[u + c]!;
  }
}
