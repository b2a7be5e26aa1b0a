/**
 * GPTQ of a linear layer.
 * @module
 */
import { decode } from '@lmq/formats';
import type { QuantizedLinear } from '@lmq/quant-core';
import type { Linear } from '@lmq/tensor';
import type { GptqOpts, GptqReport, GptqStats } from './api.js';
import { gptq } from './gptq.js';

/**
 * {@link gptq} of a layer's weight; its bias and input quantization are kept. A compressed weight is decoded first.
 * @throws LmqError as `gptq`
 */
export async function gptqLinear(linear: Linear, stats: GptqStats, opts: GptqOpts): Promise<QuantizedLinear<GptqReport>> {
  const { weight, report } = await gptq(decode(linear.weight), stats.hessian, opts);
  return { linear: { ...linear, weight }, report };
}
