/**
 * Tables for rotary position embedding (Su et al. 2021, RoFormer, section 3.2.2): angle(p, i) = p theta^(-2i / headDim). Angles, sines
 * and cosines are computed in double and rounded once to float32.
 * @module
 */
import { type Backend, checkInteger, matrix } from '@lmq/tensor';
import type { Architecture, RopeTables } from './api.js';

/**
 * Loads the tables of positions 0 … positions - 1. The caller disposes them.
 * @param positions 1 … context. Default: the whole context
 * @throws LmqError `argument/option` when out of range, `backend/memory`
 */
export function loadRope(architecture: Architecture, backend: Backend, positions: number = architecture.context): RopeTables {
  checkInteger(positions, 'positions', 1, architecture.context, 'loadRope');
  const half = architecture.headDim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let i = 0; i < half; i++) {
    const frequency = architecture.rope.theta ** (-i / half);
    for (let p = 0; p < positions; p++) {
      cos[p * half + i] = Math.cos(p * frequency);
      sin[p * half + i] = Math.sin(p * frequency);
    }
  }
  const s = backend.scope();
  try {
    return {
      cos: s.upload(matrix(cos, positions, half)),
      sin: s.upload(matrix(sin, positions, half)),
      positions,
      dispose: () => s.dispose(),
    };
  } catch (e) {
    s.dispose();
    throw e;
  }
}
