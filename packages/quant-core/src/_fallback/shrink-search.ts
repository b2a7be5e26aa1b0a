/**
 * The part of a row's range that gives the least squared error, by ternary search between `maxShrink` and 1 (ModelCloud/GPTQModel,
 * fallback_smooth.py, mse_optimal_quant). Differences: a range without zero is widened to hold it, unless `published`, and zero points stay on
 * the grid, where they can be stored, also while searching.
 * @module
 */
import { rint } from '@lmq/formats';
import type { FloatFormat } from '@lmq/tensor';
import { storedScale } from '../clipping.js';
import { EPS, type Smoother } from './smoothing.js';
import type { CenteredGrid } from './strategies.js';

const f = Math.fround;

/** Fits a row. `symmetric`: around zero, with zero point 2^(b-1). */
export function shrinkSearch(
  x: Float32Array,
  { steps, maxShrink }: Extract<Smoother, { method: 'mse' }>,
  symmetric: boolean,
  maxCode: number,
  format: FloatFormat,
  published: boolean,
): CenteredGrid {
  let min = published ? Number.POSITIVE_INFINITY : 0;
  let max = published ? Number.NEGATIVE_INFINITY : 0;
  for (const v of x) {
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  if (symmetric) {
    max = Math.max(-min, max);
    min = -max;
  }
  const gridAt = (p: number): CenteredGrid => {
    const scale = storedScale(Math.max(f(f(f(max * p) - f(min * p)) / maxCode), EPS), format);
    const zero = symmetric ? (maxCode + 1) / 2 : Math.min(Math.max(rint(f(f(-min * p) / scale)), 0), maxCode);
    return { scale, zero, center: 0, middle: zero };
  };
  const errorAt = (p: number) => {
    const g = gridAt(p);
    let sum = 0;
    for (const v of x) {
      const e = f(f((Math.min(Math.max(rint(f(f(v / g.scale) + g.zero)), 0), maxCode) - g.zero) * g.scale) - v);
      sum += e * e;
    }
    return sum;
  };
  const least = Math.max(maxShrink, 1e-3);
  let left = f(least);
  let right = 1;
  let best = 1;
  let bestError = Number.POSITIVE_INFINITY;
  const rounds = Math.max(Math.trunc(Math.log(Math.max(steps, 2)) / Math.log(1.5)) + 1, 3);
  for (let i = 0; i < rounds; i++) {
    const third = f(f(right - left) / 3);
    const places = [f(left + third), f(right - third)] as const;
    const errors = [errorAt(places[0]), errorAt(places[1])] as const;
    for (const turn of [0, 1] as const) {
      if (errors[turn] >= bestError) continue;
      bestError = errors[turn];
      best = places[turn];
    }
    if (errors[0] < errors[1]) right = places[1];
    else left = places[0];
  }
  const delta = f(f(right - left) * f(0.1));
  const near = [f(best - delta), best, f(best + delta)].map((p) => Math.min(Math.max(p, f(least)), 1));
  const errors = near.map(errorAt);
  return gridAt(near[errors.indexOf(Math.min(...errors))]!);
}
