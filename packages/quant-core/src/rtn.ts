/**
 * Round to nearest: the baseline of every other method, and what they fall back to. Needs no data.
 *
 * code = clamp(round_half_even(fround(w / scale)) + zero, 0, 2^b - 1), value = fround((code - zero) * scale). |w - value| <= scale / 2
 * (up to float32 rounding) where w lies within the grid. Error sums are float64. O(out · in).
 * @module
 */
import { bitsPerWeight, decode } from '@lmq/formats';
import { type Linear, matrixShape, type Tensor } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';
import { PROXY_ROWS, stridesOf } from './_rows.js';
import { toAffine } from './affine.js';
import type { AffineOpts, AffineParams, LinearStats, Quantized, QuantizedLinear, QuantReport, Scheme, Trits } from './api.js';
import { checkFinite } from './finite.js';
import { diagonalOf } from './importance.js';
import { type FindParamsOpts, fitScheme } from './params.js';
import { proxyLoss } from './proxy-loss.js';
import { resolveScheme } from './scheme.js';
import { toTrits, tritCode, tritValue } from './trits.js';

/** Bound on rows · in² of the reported proxy loss: about a second. */
const PROXY_WORK = 5e8;

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
  const params = fitScheme(w, scheme, importance);
  const codes = new Uint8Array(rows * cols);
  const relativeError = encode(w, scheme, params, codes);
  const weight = (scheme.trits ? toTrits : toAffine)(scheme, [rows, cols], codes, params);
  const report: Quantized['report'] = {
    method: 'rtn',
    bits: scheme.bits,
    groupSize: opts.groupSize ?? -1,
    symmetric: scheme.symmetric,
    ...(scheme.trits && { trits: true as const }),
    bitsPerWeight: bitsPerWeight(weight),
    relativeError,
    seconds: 0,
  };
  if (opts.hessian) {
    const maxRows = Math.min(PROXY_ROWS, Math.max(16, Math.floor(PROXY_WORK / cols ** 2)));
    report.proxyLoss = proxyLoss(w, decode(weight), opts.hessian, { maxRows }).relative;
  }
  report.seconds = (performance.now() - start) / 1000;
  return { weight, report };
}

/**
 * {@link rtn} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first.
 * @param stats `hessian` is reported on; its diagonal is the importance that `clip: 'imatrix'` needs
 */
export function rtnLinear(linear: Linear, stats: LinearStats, opts: AffineOpts): QuantizedLinear {
  const { weight, report } = rtn(decode(linear.weight), stats.hessian ? { ...opts, hessian: stats.hessian } : opts);
  return { linear: { ...linear, weight }, report };
}

/** Writes codes, one per byte, and returns ‖W − Ŵ‖ / ‖W‖. */
function encode(w: Tensor, scheme: Scheme, params: AffineParams, codes: Uint8Array): number {
  const [rows, cols] = matrixShape(w, 'rtn');
  const [rowStride, colStride] = stridesOf(w);
  const { data } = w;
  const [blockRows, blockCols] = scheme.block;
  const maxCode = 2 ** scheme.bits - 1;
  let errors = 0;
  let norm = 0;
  for (let r = 0, to = 0; r < rows; r++) {
    let at = w.offset + r * rowStride;
    let p = Math.floor(r / blockRows) * params.groups;
    for (let c = 0; c < cols; p++) {
      const scale = params.scales[p]!;
      const zero = params.zeroPoints[p]!;
      for (const end = c + blockCols; c < end; c++, at += colStride, to++) {
        const v = data[at]!;
        const code = scheme.trits ? tritCode(v, scale, zero) : gridCode(v, scale, zero, maxCode);
        codes[to] = code;
        const e = v - (scheme.trits ? tritValue(v, scale, zero) : gridValue(code, scale, zero));
        errors += e * e;
        norm += v * v;
      }
    }
  }
  return errors === 0 ? 0 : Math.sqrt(errors / norm);
}
