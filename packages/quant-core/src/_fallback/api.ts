/**
 * Types of the strategies for layers without calibration.
 * @module
 */
import type { AffineOpts } from '../api.js';
import type { RtnOpts } from '../rtn.js';

/**
 * How scale and zero point come about. `rtn`: by preset and clip; `midpoint`, `mean`, `median`: the grid is centred there and reaches the
 * farthest weight; `stdclip`: mean ± 3 standard deviations.
 */
export type FallbackStrategy = 'rtn' | 'midpoint' | 'mean' | 'median' | 'stdclip';

/** What happens to a group's outliers before its grid is fitted. */
export type SmoothOpts =
  /** Magnitudes beyond a percentile (99) are clipped. */
  | { method: 'percentile'; percentile?: number; groupSizeThreshold?: number }
  /** Values outside two percentiles (0.5, 99.5) are clipped. */
  | { method: 'percentile_asym'; low?: number; high?: number; groupSizeThreshold?: number }
  /** Values further from the median than k (2.75) times the median absolute deviation, normalized to a standard deviation, are clipped. */
  | { method: 'mad'; k?: number; groupSizeThreshold?: number }
  /** No smoothing but another fit, in place of the strategy's: the part of the range with the least squared error, down to maxShrink (0.8). */
  | { method: 'mse'; steps?: number; maxShrink?: number }
  /** The `pct` percent (1) of largest magnitudes are clipped. */
  | { method: 'outlier'; pct?: number; groupSizeThreshold?: number }
  /** Values further from the mean than k (3) standard deviations are clipped. */
  | { method: 'softnorm'; k?: number; groupSizeThreshold?: number }
  /** As `percentile` (99), interpolated on the scale log(1 + mu |w|), mu = 8. */
  | { method: 'log'; percentile?: number; mu?: number; groupSizeThreshold?: number }
  /** Values are divided by their root mean square, of the row or averaged over columns, and the scale is multiplied with it. */
  | { method: 'rowcol'; axis?: 'row' | 'col'; groupSizeThreshold?: number };
export type SmoothMethod = SmoothOpts['method'];

export interface FallbackChoice {
  strategy: FallbackStrategy;
  /** A name alone stands for its defaults. Groups of fewer columns than `groupSizeThreshold` (128) are left as they are. Default: none. */
  smooth?: SmoothMethod | SmoothOpts;
}

export interface FallbackOpts extends RtnOpts, FallbackChoice {
  trits?: false;
  granularity?: Exclude<AffineOpts['granularity'], 'tensor'>;
}
