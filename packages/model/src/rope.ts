/**
 * Tables for rotary position embedding (Su et al. 2021, RoFormer, section 3.2.2): cos and sin of position * frequency, times the magnitude
 * that YaRN asks for. Computed in double and rounded once to float32.
 * @module
 */
import { type Backend, checkInteger, type Handle, matrix, type Scope } from '@lmq/tensor';
import type { Architecture, RopeKind, RopeTables } from './api.js';
import { ropeFrequencies } from './rope-frequencies.js';

/**
 * Loads the tables of positions 0 … positions - 1. The caller disposes them.
 * @param positions 1 … context. Default: the whole context
 * @throws LmqError `argument/option` when out of range, `model/config` for unusable frequencies, `backend/memory`
 */
export function loadRope(architecture: Architecture, backend: Backend, positions: number = architecture.context): RopeTables {
  checkInteger(positions, 'positions', 1, architecture.context, 'loadRope');
  const { rotary, local, ...global } = architecture.rope;
  const s = backend.scope();
  try {
    return {
      ...tables(s, global, rotary, positions),
      ...(local && { local: tables(s, local, rotary, positions) }),
      positions,
      dispose: () => s.dispose(),
    };
  } catch (e) {
    s.dispose();
    throw e;
  }
}

function tables(s: Scope, kind: RopeKind, rotary: number, positions: number): { cos: Handle; sin: Handle } {
  const { frequencies, magnitude } = ropeFrequencies(kind, rotary);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let i = 0; i < half; i++) {
    const frequency = frequencies[i]!;
    for (let p = 0; p < positions; p++) {
      cos[p * half + i] = magnitude * Math.cos(p * frequency);
      sin[p * half + i] = magnitude * Math.sin(p * frequency);
    }
  }
  return { cos: s.upload(matrix(cos, positions, half)), sin: s.upload(matrix(sin, positions, half)) };
}
