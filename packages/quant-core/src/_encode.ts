/**
 * Codes of a matrix for scales that are already found, packed, and what they cost.
 * @module
 */
import { bitsPerWeight } from '@lmq/formats';
import { matrix, matrixShape, type Tensor } from '@lmq/tensor';
import { gridCode, gridValue } from './_grid.js';
import { proxyLossOf } from './_report.js';
import { stridesOf } from './_rows.js';
import { toAffine } from './affine.js';
import type { AffineParams, Quantized, QuantReport, Scheme, Trits } from './api.js';
import type { RtnOpts } from './rtn.js';
import { toTrits, tritCode, tritValue } from './trits.js';

/**
 * Encodes a matrix with parameters that are already found.
 * @param known codes to take, one per byte; default: the nearest
 */
export function encodeWith(
  w: Tensor,
  scheme: Scheme,
  params: AffineParams,
  opts: RtnOpts,
  known?: Uint8Array,
): Quantized<QuantReport, Quantized['weight'] | Trits> {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'rtn');
  const codes = known ?? new Uint8Array(rows * cols);
  const values = opts.hessian && new Float32Array(rows * cols);
  const relativeError = encode(w, scheme, params, codes, known !== undefined, values);
  const weight = (scheme.trits ? toTrits : toAffine)(scheme, [rows, cols], codes, params);
  const report: QuantReport = {
    method: 'rtn',
    bits: scheme.bits,
    groupSize: opts.groupSize ?? -1,
    symmetric: scheme.symmetric,
    ...(scheme.trits && { trits: true as const }),
    bitsPerWeight: bitsPerWeight(weight),
    relativeError,
    seconds: 0,
  };
  if (opts.hessian && values) report.proxyLoss = proxyLossOf(w, matrix(values, rows, cols), opts.hessian);
  report.seconds = (performance.now() - start) / 1000;
  return { weight, report };
}

/** Writes codes, one per byte, unless they are known, and Ŵ where it is asked for; returns ‖W − Ŵ‖ / ‖W‖. */
function encode(w: Tensor, scheme: Scheme, params: AffineParams, codes: Uint8Array, known: boolean, values?: Float32Array): number {
  const [rows, cols] = matrixShape(w, 'rtn');
  const [rowStride, colStride] = stridesOf(w);
  const { data } = w;
  const [blockRows, blockCols] = scheme.block;
  const { trits } = scheme;
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
        if (!known) codes[to] = trits ? tritCode(v, scale, zero) : gridCode(v, scale, zero, maxCode);
        const value = trits ? tritValue(v, scale, zero) : gridValue(codes[to]!, scale, zero);
        if (values) values[to] = value;
        const e = v - value;
        errors += e * e;
        norm += v * v;
      }
    }
  }
  return errors === 0 ? 0 : Math.sqrt(errors / norm);
}
