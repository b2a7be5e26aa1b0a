/**
 * Smoothers of ModelCloud/GPTQModel (fallback_smooth.py): outliers of a row of a group, cut off before a grid is fitted to it. float32 results,
 * sums in float64.
 * @module
 */
import { rint } from '@lmq/formats';
import { checkInteger, checkOneOf, LmqError } from '@lmq/tensor';
import type { FallbackChoice, SmoothMethod, SmoothOpts } from './api.js';

const f = Math.fround;

/** Least root mean square, standard deviation or scale. */
export const EPS = 1e-8;
/** Median absolute deviation of a normal distribution → its standard deviation. */
const MAD_TO_STD = 1.4826;

type Filled<T> = T extends unknown ? Required<T> : never;
/** {@link SmoothOpts} with every default filled in. */
export type Smoother = Filled<SmoothOpts>;

const DEFAULTS: { [M in SmoothMethod]: Filled<Extract<SmoothOpts, { method: M }>> } = {
  percentile: { method: 'percentile', percentile: 99, groupSizeThreshold: 128 },
  percentile_asym: { method: 'percentile_asym', low: 0.5, high: 99.5, groupSizeThreshold: 128 },
  mad: { method: 'mad', k: 2.75, groupSizeThreshold: 128 },
  mse: { method: 'mse', steps: 32, maxShrink: 0.8 },
  outlier: { method: 'outlier', pct: 1, groupSizeThreshold: 128 },
  softnorm: { method: 'softnorm', k: 3, groupSizeThreshold: 128 },
  log: { method: 'log', percentile: 99, mu: 8, groupSizeThreshold: 128 },
  rowcol: { method: 'rowcol', axis: 'row', groupSizeThreshold: 128 },
};

/** Open at the first number, closed at the second. */
const RANGES: Record<string, [number, number]> = {
  percentile: [0, 100],
  high: [0, 100],
  k: [0, 1e6],
  pct: [0, 100],
  mu: [0, 1e6],
  maxShrink: [0, 1],
};

/**
 * Fills in defaults and checks.
 * @throws LmqError `argument/option`
 */
export function resolveSmoother(smooth: FallbackChoice['smooth'], op: string): Smoother | null {
  if (smooth === undefined) return null;
  const given = (typeof smooth === 'object' && smooth !== null ? smooth : { method: smooth }) as SmoothOpts;
  const defaults = DEFAULTS[checkOneOf<SmoothMethod>(given.method, 'smooth.method', Object.keys(DEFAULTS) as SmoothMethod[], op)];
  for (const [name, value] of Object.entries(given)) {
    const bad = (expected: string) => new LmqError('argument/option', `smooth.${name} is out of range`, { op, expected, found: value });
    if (!Object.hasOwn(defaults, name)) throw bad(`no such option of ${given.method}`);
    if (name === 'axis') checkOneOf(String(value), 'smooth.axis', ['row', 'col'], op);
    if (name === 'steps' || name === 'groupSizeThreshold') checkInteger(value as number, `smooth.${name}`, 1, 2 ** 31, op);
    const [least, most] = RANGES[name] ?? [];
    if (least !== undefined && !(typeof value === 'number' && value > least && value <= most!)) throw bad(`${least} < ${name} <= ${most}`);
  }
  const out = { ...defaults, ...given } as Smoother;
  if (out.method === 'percentile_asym' && !(typeof out.low === 'number' && out.low >= 0 && out.low < out.high)) {
    throw new LmqError('argument/option', 'smooth.low is out of range', { op, expected: `0 <= low < high`, found: out.low });
  }
  return out;
}

/**
 * What the weights of a group are divided by before they are fitted: 1, but for `rowcol`.
 * @param rows of the group: the one to be fitted, or with `axis: 'col'` all of them
 */
export function smoothFactor(rows: readonly Float32Array[], s: Smoother | null): number {
  if (s?.method !== 'rowcol') return 1;
  if (s.axis === 'row') return Math.max(f(Math.sqrt(meanOf(rows[0]!, (v) => v * v))), EPS);
  const cols = rows[0]!.length;
  let sum = 0;
  for (let c = 0; c < cols; c++) {
    let squares = 0;
    for (const row of rows) squares += row[c]! * row[c]!;
    sum += Math.max(Math.sqrt(squares / rows.length), EPS);
  }
  return f(sum / cols);
}

/**
 * Smooths a row of a group in place.
 * @param factor from {@link smoothFactor}
 */
export function smoothRow(x: Float32Array, s: Smoother | null, factor: number): void {
  const [low, high] = s ? limitsOf(x, s) : everything;
  for (let i = 0; i < x.length; i++) x[i] = Math.max(Math.min(x[i]! / factor, high), low);
}

type Limits = readonly [low: number, high: number];
const everything: Limits = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
const around = (center: number, reach: number): Limits => [f(center - reach), f(center + reach)];

/** Between what a smoother keeps the values of a row. */
function limitsOf(x: Float32Array, s: Smoother): Limits {
  switch (s.method) {
    case 'percentile':
      return around(0, quantile(sorted(x, Math.abs), s.percentile));
    case 'percentile_asym': {
      const order = sorted(x, (v) => v);
      return [quantile(order, s.low), quantile(order, s.high)];
    }
    case 'mad': {
      const center = medianOf(x);
      const deviation = f(medianOf(x.map((v) => Math.abs(f(v - center)))) * f(MAD_TO_STD));
      return around(center, f(s.k * deviation));
    }
    case 'outlier': {
      const keep = Math.max(1, rint(x.length * (1 - s.pct / 100)));
      return around(0, sorted(x, Math.abs)[Math.min(keep, x.length) - 1]!);
    }
    case 'softnorm': {
      const center = f(meanOf(x, (v) => v));
      const rms = Math.max(f(Math.sqrt(meanOf(x, (v) => (v - center) ** 2))), EPS);
      return around(center, f(s.k * rms));
    }
    case 'log': {
      const magnitudes = sorted(x, (v) => Math.log1p(Math.abs(v) * s.mu));
      return around(0, f(Math.expm1(quantile(magnitudes, s.percentile)) / s.mu));
    }
    default:
      return everything;
  }
}

export function meanOf(x: Float32Array, of: (v: number) => number): number {
  let sum = 0;
  for (const v of x) sum += of(v);
  return sum / x.length;
}

/** The lower one of two in the middle. */
export function medianOf(x: Float32Array): number {
  return sorted(x, (v) => v)[(x.length - 1) >> 1]!;
}

function sorted(x: Float32Array, of: (v: number) => number): Float32Array {
  return x.map(of).sort();
}

/** Linear between order statistics. */
function quantile(order: Float32Array, percentile: number): number {
  const place = (percentile / 100) * (order.length - 1);
  const low = order[Math.floor(place)]!;
  return f(low + f(f(order[Math.ceil(place)]! - low) * (place % 1)));
}
