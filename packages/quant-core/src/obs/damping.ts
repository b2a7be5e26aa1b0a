/**
 * Damping ladder: how much is added to the diagonal of H before it is factored, and what happens when that is not enough.
 *
 * 1. `dampPercent` times the mean of the diagonal (IST-DASLab/gptq: 0.01).
 * 2. While the Cholesky factorization fails, `dampIncrement` more, below 1 (ModelCloud/GPTQModel).
 * 3. Then, on top of that, a diagonal floor of 1e-6 · max |diagonal| · 10^(k-1) for k = 1 … 6: it is added, and entries below it are
 *    raised to it.
 * 4. Then `factor: null`: the caller rounds to nearest and says so.
 * @module
 */
import { type Handle, LmqError, type Scope } from '@lmq/tensor';
import { inverseFactor } from './inverse-factor.js';

export interface DampingOpts {
  /** First damping, as a part of the mean of the diagonal: 0 <= dampPercent < 1. Default 0.01. */
  dampPercent?: number;
  /** Added after each failure. Default 0.01. */
  dampIncrement?: number;
  /** Columns of the factor in this order of H's columns (act-order). */
  order?: ArrayLike<number>;
}

/** What the ladder came to. */
export interface Damped {
  /** U, [n, n] upper triangular with (H + damping)⁻¹ = Uᵀ U; null when no step made H positive definite. */
  factor: Handle | null;
  /** The damping of the last step. */
  dampPercent: number;
  /** The diagonal floor of the last step; 0 when none was needed. */
  diagonalFloor: number;
  /** Factorizations tried. */
  tries: number;
}

const FLOOR_TRIES = 6;

/**
 * Damps and factors. Besides `h` at most two n x n matrices are held while working, and the factor afterwards.
 * @param h symmetric [n, n]; left as it is, and its diagonal is not looked at
 * @param diagonal the diagonal of H before damping: h's own, or with ones for inputs that never fired
 * @throws LmqError `argument/option`, or the reason of the scope's aborted signal
 */
export async function dampedFactor(s: Scope, h: Handle, diagonal: ArrayLike<number>, opts: DampingOpts = {}): Promise<Damped> {
  const { dampPercent: first = 0.01, dampIncrement = 0.01, order } = opts;
  checkDamping(opts, 'dampedFactor');
  const n = diagonal.length;
  let mean = 0;
  let largest = 0;
  for (let i = 0; i < n; i++) {
    mean += diagonal[i]! / n;
    largest = Math.max(largest, Math.abs(diagonal[i]!));
  }
  let tries = 0;
  const attempt = async (damp: number, floor: number): Promise<Handle | null> => {
    const damped = Float64Array.from(diagonal, (d) => Math.max(d + damp * Math.abs(mean) + floor, floor));
    tries++;
    const { factor } = inverseFactor(s, h, order, damped);
    await s.flush();
    return factor;
  };
  let last = first;
  // Counted in steps, so that 0.01 + 99 · 0.01 does not creep past 1.
  for (let step = 0; step === 0 || (dampIncrement > 0 && first + step * dampIncrement < 1 - 1e-9); step++) {
    last = first + step * dampIncrement;
    const factor = await attempt(last, 0);
    if (factor) return { factor, dampPercent: last, diagonalFloor: 0, tries };
  }
  let floor = 0;
  for (let k = 1; k <= FLOOR_TRIES; k++) {
    floor = 1e-6 * largest * 10 ** (k - 1);
    const factor = await attempt(last, floor);
    if (factor) return { factor, dampPercent: last, diagonalFloor: floor, tries };
  }
  return { factor: null, dampPercent: last, diagonalFloor: floor, tries };
}

/** @throws LmqError `argument/option` */
export function checkDamping({ dampPercent = 0.01, dampIncrement = 0.01 }: DampingOpts, op: string): void {
  if (!(dampPercent >= 0 && dampPercent < 1)) {
    throw new LmqError('argument/option', 'dampPercent is out of range', { op, expected: '0 <= dampPercent < 1', found: dampPercent });
  }
  if (!(dampIncrement === 0 || (dampIncrement >= 1e-4 && dampIncrement < 1))) {
    throw new LmqError('argument/option', 'dampIncrement is out of range', { op, expected: '0, or 0.0001 … 1', found: dampIncrement });
  }
}
