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
import type { AffineOpts, AffineParams, LinearStats, Quantized, QuantizedLinear, Scheme } from './api.js';
import { checkFinite } from './finite.js';
import { fitScheme } from './params.js';
import { proxyLoss } from './proxy-loss.js';
import { resolveScheme } from './scheme.js';

/** Bound on rows · in² of the reported proxy loss: about a second. */
const PROXY_WORK = 5e8;

export interface RtnOpts extends AffineOpts {
  /** [in, in]; only to report the proxy loss. */
  hessian?: Tensor;
}

/**
 * Quantizes a matrix by rounding to nearest.
 * @param w [out, in]
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinite weights)
 */
export function rtn(w: Tensor, opts: RtnOpts): Quantized {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'rtn');
  const scheme = resolveScheme(opts, rows, cols, 'rtn');
  checkFinite(w, 'the weight', 'rtn');
  const params = fitScheme(w, scheme);
  const codes = new Uint8Array(rows * cols);
  const relativeError = encode(w, scheme, params, codes);
  const weight = toAffine(scheme, [rows, cols], codes, params);
  const report: Quantized['report'] = {
    method: 'rtn',
    bits: scheme.bits,
    groupSize: opts.groupSize ?? -1,
    symmetric: scheme.symmetric,
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
 * @param stats `hessian` is only reported on
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
        const code = gridCode(v, scale, zero, maxCode);
        codes[to] = code;
        const e = v - gridValue(code, scale, zero);
        errors += e * e;
        norm += v * v;
      }
    }
  }
  return errors === 0 ? 0 : Math.sqrt(errors / norm);
}
