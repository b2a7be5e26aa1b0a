/**
 * Gradient of gated linear units (Shazeer 2020), y = f(g) u: dg = dy u f'(g), du = dy f(g). Double inside, on the calling thread:
 * O(tokens · width). With σ the logistic function: silu(g) = g σ, silu'(g) = σ (1 + g (1 - σ)). The tanh approximation of gelu is g σ(s) with
 * s = 2 √(2/π) (g + 0.044715 g³), so its slope is σ + g σ (1 - σ) s'.
 * @module
 */
import { type GluActivation, type Handle, matrix, type Scope } from '@lmq/tensor';

const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/**
 * @param gate, up, dy of one shape: the inputs, and the gradient of the output
 * @returns in `s`
 */
export async function gluBackward(
  s: Scope,
  gate: Handle,
  up: Handle,
  dy: Handle,
  activation: GluActivation,
): Promise<{ dGate: Handle; dUp: Handle }> {
  const [{ data: gs }, { data: us }, { data: dys }] = [await s.read(gate), await s.read(up), await s.read(dy)];
  const dGate = new Float32Array(gs.length);
  const dUp = new Float32Array(gs.length);
  const silu = activation === 'silu';
  for (let i = 0; i < gs.length; i++) {
    const g = gs[i]!;
    const square = g * g;
    const sigma = 1 / (1 + Math.exp(silu ? -g : -LINEAR * g * (1 + CUBIC * square)));
    const slope = silu ? 1 : LINEAR * (1 + 3 * CUBIC * square);
    dGate[i] = dys[i]! * us[i]! * sigma * (1 + g * (1 - sigma) * slope);
    dUp[i] = dys[i]! * g * sigma;
  }
  const { rows, cols } = gate;
  return { dGate: s.upload(matrix(dGate, rows, cols)), dUp: s.upload(matrix(dUp, rows, cols)) };
}
