/**
 * Round to nearest: the baseline of every other method, and what they fall back to. Needs no data.
 *
 * code = clamp(round_half_even(fround(w / scale)) + zero, 0, 2^b - 1), value = fround((code - zero) * scale). |w - value| <= scale / 2
 * (up to float32 rounding) where w lies within the grid. Error sums are float64. O(out · in).
 * @module
 */
import { decode } from '@lmq/formats';
import { type Linear, matrixShape, type Tensor } from '@lmq/tensor';
import { encodeWith } from './_encode.js';
import type { LinearStats, Quantized, QuantizedLinear, QuantReport, Trits } from './api.js';
import { checkFinite } from './finite.js';
import { diagonalOf } from './importance.js';
import { type FindParamsOpts, fitScheme } from './params.js';
import { resolveScheme } from './scheme.js';

export interface RtnOpts extends FindParamsOpts {
  /** [in, in]; to report the proxy loss, and for its diagonal where `importance` is needed and not given. */
  hessian?: Tensor;
}

/**
 * Quantizes a matrix by rounding to nearest.
 * @param w [out, in]
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinite weights)
 */
export function rtn(w: Tensor, opts: RtnOpts & { trits?: false }): Quantized;
export function rtn(w: Tensor, opts: RtnOpts): Quantized<QuantReport, Quantized['weight'] | Trits>;
export function rtn(w: Tensor, opts: RtnOpts): Quantized<QuantReport, Quantized['weight'] | Trits> {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'rtn');
  const scheme = resolveScheme(opts, rows, cols, 'rtn');
  checkFinite(w, 'the weight', 'rtn');
  const importance = opts.importance ?? (scheme.clip.method === 'imatrix' && opts.hessian ? diagonalOf(opts.hessian) : undefined);
  const { weight, report } = encodeWith(w, scheme, fitScheme(w, scheme, importance), opts);
  return { weight, report: { ...report, seconds: (performance.now() - start) / 1000 } };
}

/**
 * {@link rtn} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first.
 * @param stats `hessian` is reported on; its diagonal is the importance that `clip: 'imatrix'` needs
 */
export function rtnLinear(linear: Linear, stats: LinearStats, opts: FindParamsOpts): QuantizedLinear {
  const { weight, report } = rtn(decode(linear.weight), stats.hessian ? { ...opts, hessian: stats.hessian } : opts);
  return { linear: { ...linear, weight }, report };
}
