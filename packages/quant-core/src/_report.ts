/**
 * What a compressed weight costs, for reports.
 * @module
 */
import { bitsPerWeight, decode } from '@lmq/formats';
import { type CompressedTensor, contiguous, type Tensor } from '@lmq/tensor';
import { PROXY_ROWS, ratio } from './_rows.js';
import type { QuantReport } from './api.js';
import { proxyLoss } from './proxy-loss.js';

/** Bound on rows · in² of the reported proxy loss: about a second. */
const PROXY_WORK = 5e8;

/** Relative proxy loss over as many rows as take about a second. */
export function proxyLossOf(w: Tensor, decoded: Tensor, hessian: Tensor): number {
  const cols = decoded.shape[1]!;
  const maxRows = Math.min(PROXY_ROWS, Math.max(16, Math.floor(PROXY_WORK / cols ** 2)));
  return proxyLoss(w, decoded, hessian, { maxRows }).relative;
}

/** Size and errors of `weight` in place of `w`, and the seconds since `start`. */
export function costOf(
  w: Tensor,
  weight: CompressedTensor,
  hessian: Tensor | undefined,
  start: number,
): Pick<QuantReport, 'bitsPerWeight' | 'relativeError' | 'proxyLoss' | 'seconds'> {
  const decoded = decode(weight);
  const values = contiguous(w);
  let errors = 0;
  let norm = 0;
  for (let i = 0; i < values.length; i++) {
    const e = values[i]! - decoded.data[i]!;
    errors += e * e;
    norm += values[i]! * values[i]!;
  }
  return {
    bitsPerWeight: bitsPerWeight(weight),
    relativeError: Math.sqrt(ratio(errors, norm)),
    ...(hessian && { proxyLoss: proxyLossOf(w, decoded, hessian) }),
    seconds: (performance.now() - start) / 1000,
  };
}
