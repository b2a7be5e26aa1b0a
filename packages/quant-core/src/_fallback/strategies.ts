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

/**
 * The grid of a row, for any strategy but `rtn`.
 * @param published a range without zero keeps its width, and its zero point is moved onto the grid; otherwise it is widened to hold zero
 */
export function centeredGrid(
  x: Float32Array,
  strategy: Exclude<FallbackStrategy, 'rtn'>,
  maxCode: number,
  format: FloatFormat,
  published: boolean,
): CenteredGrid {
  const { center, low, high, span } = rangeOf(x, strategy);
  if (!published && (low > 0 || high < 0)) return gridFrom(Math.min(low, 0), Math.max(high, 0) - Math.min(low, 0), maxCode, format);
  if (strategy === 'stdclip') return gridFrom(low, span, maxCode, format);
  const scale = fit(span, maxCode, format);
  const middle = maxCode / 2;
  return { scale, zero: onGrid(f(middle - f(center / scale)), maxCode), center, middle };
}

const fit = (span: number, maxCode: number, format: FloatFormat) => storedScale(Math.max(f(span / maxCode), EPS), format);
const onGrid = (zero: number, maxCode: number) => Math.min(Math.max(rint(zero), 0), maxCode);

/** Codes from `low` on. */
function gridFrom(low: number, span: number, maxCode: number, format: FloatFormat): CenteredGrid {
  const scale = fit(span, maxCode, format);
  const zero = onGrid(f(-low / scale), maxCode);
  return { scale, zero, center: 0, middle: zero };
}

interface CenteredRange {
  center: number;
  low: number;
  high: number;
  span: number;
}

function rangeOf(x: Float32Array, strategy: Exclude<FallbackStrategy, 'rtn'>): CenteredRange {
  if (strategy === 'midpoint') {
    let low = x[0]!;
    let high = low;
    for (const v of x) {
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
    return { center: f(f(high + low) / 2), low, high, span: f(high - low) };
  }
  const center = strategy === 'median' ? medianOf(x) : f(meanOf(x, (v) => v));
  let reach = EPS;
  if (strategy === 'stdclip') reach = f(SIGMA * Math.max(f(Math.sqrt(meanOf(x, (v) => (v - center) ** 2))), EPS));
  else for (const v of x) reach = Math.max(reach, Math.abs(f(v - center)));
  const low = f(center - reach);
  const high = f(center + reach);
  return { center, low, high, span: strategy === 'stdclip' ? f(high - low) : 2 * reach };
}
