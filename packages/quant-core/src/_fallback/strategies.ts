/**
 * Grids of ModelCloud/GPTQModel's fallback (gptq.py, _fallback_quantize) for a row of a group, without calibration. float32 results, sums in
 * float64. Scales are rounded to their format before the zero point is found.
 * @module
 */
import { rint } from '@lmq/formats';
import type { FloatFormat } from '@lmq/tensor';
import { storedScale } from '../clipping.js';
import type { FallbackStrategy } from './api.js';
import { EPS, meanOf, medianOf } from './smoothing.js';

const f = Math.fround;
/** Standard deviations on either side of the mean that `stdclip` keeps. */
const SIGMA = 3;

/** A grid, and how the published code finds codes: round((w - center) / scale + middle). The value is (code - zero) * scale. */
export interface CenteredGrid {
  scale: number;
  zero: number;
  center: number;
  middle: number;
}

/** The grid of a row, for any strategy but `rtn`. */
export function centeredGrid(
  x: Float32Array,
  strategy: Exclude<FallbackStrategy, 'rtn'>,
  maxCode: number,
  format: FloatFormat,
): CenteredGrid {
  const fit = (span: number) => storedScale(Math.max(f(span / maxCode), EPS), format);
  const onGrid = (zero: number) => Math.min(Math.max(rint(zero), 0), maxCode);
  if (strategy === 'stdclip') {
    const mean = f(meanOf(x, (v) => v));
    const reach = f(SIGMA * Math.max(f(Math.sqrt(meanOf(x, (v) => (v - mean) ** 2))), EPS));
    const low = f(mean - reach);
    const scale = fit(f(f(mean + reach) - low));
    const zero = onGrid(f(-low / scale));
    return { scale, zero, center: 0, middle: zero };
  }
  const [center, span] = strategy === 'midpoint' ? middleOf(x) : aroundOf(x, strategy === 'mean' ? f(meanOf(x, (v) => v)) : medianOf(x));
  const scale = fit(span);
  const middle = maxCode / 2;
  return { scale, zero: onGrid(f(middle - f(center / scale))), center, middle };
}

function middleOf(x: Float32Array): [center: number, span: number] {
  let min = x[0]!;
  let max = min;
  for (const v of x) {
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  return [f(f(max + min) / 2), f(max - min)];
}

function aroundOf(x: Float32Array, center: number): [center: number, span: number] {
  let reach = EPS;
  for (const v of x) reach = Math.max(reach, Math.abs(f(v - center)));
  return [center, 2 * reach];
}
