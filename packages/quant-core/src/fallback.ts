/**
 * Quantization of layers that calibration says nothing about, as experts that hardly any token reaches: strategies and smoothers of
 * ModelCloud/GPTQModel (gptq.py, _fallback_quantize; fallback_smooth.py).
 *
 * Differences from the published code, which `referenceCompat` brings back: codes are the nearest on the grid that is stored (there, they are
 * those of the smoothed weight, and where the grid is centred on a value its zero point is rounded afterwards, which moves all values of a
 * group by up to half a step); and a range that does not hold zero is widened to it (there, its zero point is moved onto the grid, and all
 * values of the group away from the weights). All strategies but `rtn` give zero points, also when `symmetric` is set.
 * O(out · in log groupSize).
 * @module
 */
import { decode, rint } from '@lmq/formats';
import { checkOneOf, type Linear, LmqError, matrix, matrixShape, type Tensor } from '@lmq/tensor';
import { encodeWith } from './_encode.js';
import type { FallbackChoice, FallbackOpts, FallbackStrategy } from './_fallback/api.js';
import { shrinkSearch } from './_fallback/shrink-search.js';
import { resolveSmoother, type Smoother, smoothFactor, smoothRow } from './_fallback/smoothing.js';
import { type CenteredGrid, centeredGrid } from './_fallback/strategies.js';
import { gridCode } from './_grid.js';
import { stridesOf } from './_rows.js';
import type { AffineParams, LinearStats, Quantized, QuantizedLinear, QuantReport, Scheme } from './api.js';
import { storedScale } from './clipping.js';
import { checkFinite } from './finite.js';
import { diagonalOf } from './importance.js';
import { fitScheme } from './params.js';
import { resolveScheme } from './scheme.js';

const f = Math.fround;

export const FALLBACK_STRATEGIES: readonly FallbackStrategy[] = ['rtn', 'midpoint', 'mean', 'median', 'stdclip'];

/** @throws LmqError `argument/option` for a strategy, smoother or one of its options that is unknown or out of range */
export function checkFallback(choice: FallbackStrategy | FallbackChoice, op: string): void {
  const { strategy, smooth } = typeof choice === 'object' && choice !== null ? choice : { strategy: choice, smooth: undefined };
  checkOneOf(String(strategy), 'strategy', FALLBACK_STRATEGIES, op);
  resolveSmoother(smooth, op);
}

export interface FallbackReport extends QuantReport {
  method: 'fallback';
  strategy: FallbackStrategy;
}

/**
 * Quantizes a matrix without calibration.
 * @param w [out, in]
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinite weights)
 */
export function fallback(w: Tensor, opts: FallbackOpts): Quantized<FallbackReport> {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'fallback');
  const strategy = checkOneOf(opts.strategy, 'strategy', FALLBACK_STRATEGIES, 'fallback');
  let smoother = resolveSmoother(opts.smooth, 'fallback');
  const asked = resolveScheme(opts, rows, cols, 'fallback');
  if (asked.granularity === 'tensor' || asked.trits) {
    throw new LmqError('argument/option', 'fallback strategies make a grid for each row or group', {
      op: 'fallback',
      found: asked.trits ? 'trits' : 'granularity tensor',
    });
  }
  checkFinite(w, 'the weight', 'fallback');
  const width = asked.block[1];
  if (smoother && smoother.method !== 'mse' && width < smoother.groupSizeThreshold) smoother = null;
  const symmetric = asked.symmetric && (smoother?.method === 'mse' || strategy === 'rtn');
  const scheme: Scheme = { ...asked, symmetric };
  const importance = opts.importance ?? (opts.hessian && diagonalOf(opts.hessian));
  const { params, codes } = fit(w, scheme, strategy, smoother, importance);
  const known = scheme.referenceCompat ? codes : undefined;
  const { weight, report } = encodeWith(w, scheme, params, opts, known) as Quantized;
  return { weight, report: { ...report, method: 'fallback', strategy, seconds: (performance.now() - start) / 1000 } };
}

/** {@link fallback} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first. */
export function fallbackLinear(linear: Linear, stats: LinearStats, opts: FallbackOpts): QuantizedLinear<FallbackReport> {
  const { weight, report } = fallback(decode(linear.weight), stats.hessian ? { ...opts, hessian: stats.hessian } : opts);
  return { linear: { ...linear, weight }, report };
}

/** Parameters of each row and group, and the codes that the published code finds with them. */
function fit(
  w: Tensor,
  scheme: Scheme,
  strategy: FallbackStrategy,
  smoother: Smoother | null,
  importance: ArrayLike<number> | undefined,
): { params: AffineParams; codes: Uint8Array } {
  const [rows, cols] = matrixShape(w, 'fallback');
  const [rowStride, colStride] = stridesOf(w);
  const { groups, scaleFormat } = scheme;
  const width = scheme.block[1];
  const maxCode = 2 ** scheme.bits - 1;
  const params: AffineParams = { scales: new Float32Array(rows * groups), zeroPoints: new Float32Array(rows * groups), rows, groups };
  const codes = new Uint8Array(rows * cols);
  const one: Scheme = { ...scheme, groups: 1 };
  for (let g = 0; g < groups; g++) {
    const own = importance && Float64Array.from({ length: width }, (_, c) => importance[g * width + c]!);
    const rowOf = (r: number) =>
      Float32Array.from({ length: width }, (_, c) => w.data[w.offset + r * rowStride + (g * width + c) * colStride]!);
    const all = smoother?.method === 'rowcol' && smoother.axis === 'col' ? Array.from({ length: rows }, (_, r) => rowOf(r)) : null;
    const shared = all && smoothFactor(all, smoother);
    for (let r = 0; r < rows; r++) {
      const x = rowOf(r);
      const factor = shared ?? smoothFactor([x], smoother);
      smoothRow(x, smoother, factor);
      const grid = fitRow(x, one, strategy, smoother, own);
      const i = r * groups + g;
      params.scales[i] = factor === 1 ? grid.scale : storedScale(f(grid.scale * factor), scaleFormat);
      params.zeroPoints[i] = grid.zero;
      for (let c = 0, to = r * cols + g * width; c < width; c++, to++) codes[to] = publishedCode(x[c]!, grid, strategy, maxCode);
    }
  }
  return { params, codes };
}

function fitRow(
  x: Float32Array,
  scheme: Scheme,
  strategy: FallbackStrategy,
  smoother: Smoother | null,
  importance: Float64Array | undefined,
): CenteredGrid {
  const maxCode = 2 ** scheme.bits - 1;
  if (smoother?.method === 'mse') return shrinkSearch(x, smoother, scheme.symmetric, maxCode, scheme.scaleFormat, scheme.referenceCompat);
  if (strategy !== 'rtn') return centeredGrid(x, strategy, maxCode, scheme.scaleFormat, scheme.referenceCompat);
  const { scales, zeroPoints } = fitScheme(matrix(x, 1, x.length), scheme, importance);
  return { scale: scales[0]!, zero: zeroPoints[0]!, center: 0, middle: zeroPoints[0]! };
}

function publishedCode(w: number, g: CenteredGrid, strategy: FallbackStrategy, maxCode: number): number {
  if (strategy === 'rtn') return gridCode(w, g.scale, g.zero, maxCode);
  return Math.min(Math.max(rint(f(f(f(w - g.center) / g.scale) + g.middle)), 0), maxCode);
}
