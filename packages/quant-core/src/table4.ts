/**
 * NF4 and FP4, the 4-bit tables of bitsandbytes (Dettmers et al. 2023, QLoRA, arXiv 2305.14314), and AF4: each run of weights is divided by its largest
 * magnitude and becomes the nearest of 16 fixed values. Needs no data.
 *
 * Codes and scales are those of `encodeTable4` in `@lmq/formats`: bitsandbytes' own. O(out · in).
 * @module
 */
import { decode, type EncodeTable4Opts, encodeTable4 } from '@lmq/formats';
import type { Linear, Lut, Tensor } from '@lmq/tensor';
import { costOf } from './_report.js';
import type { LinearStats, Quantized, QuantizedLinear, QuantReport } from './api.js';
import { checkFinite } from './finite.js';

export type Table4Name = 'nf4' | 'fp4' | 'af4';

export interface Table4Opts extends EncodeTable4Opts {
  table: Table4Name;
  /** [in, in]; to report the proxy loss. */
  hessian?: Tensor;
}

export interface Table4Report extends QuantReport {
  method: Table4Name;
  /** Present when scales are quantized, too. */
  doubleQuant?: true;
}

/**
 * Quantizes a matrix to a table of 16 values.
 * @param w [out, in]
 * @returns `groupSize` of the report is the block size: runs go on from row to row
 * @throws LmqError `argument/option`, `argument/value` (NaN or infinite weights)
 */
export function table4(w: Tensor, opts: Table4Opts): Quantized<Table4Report, Lut> {
  const start = performance.now();
  const { table, hessian, blockSize = 64, doubleQuant = false } = opts;
  checkFinite(w, 'the weight', 'table4');
  const weight = encodeTable4(table, w, { blockSize, doubleQuant });
  const report: Table4Report = {
    method: table,
    bits: 4,
    groupSize: blockSize,
    symmetric: true,
    ...(doubleQuant && { doubleQuant: true as const }),
    ...costOf(w, weight, hessian, start),
  };
  return { weight, report };
}

/** {@link table4} of a linear layer; its bias and input quantization are kept. A compressed weight is decoded first. */
export function table4Linear(linear: Linear, stats: LinearStats, opts: Omit<Table4Opts, 'hessian'>): QuantizedLinear<Table4Report> {
  const { weight, report } = table4(decode(linear.weight), stats.hessian ? { ...opts, hessian: stats.hessian } : opts);
  return { linear: { ...linear, weight }, report };
}
