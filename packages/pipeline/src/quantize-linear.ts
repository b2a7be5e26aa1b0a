/**
 * One linear through the method that its stage names.
 * @module
 */
import { gptqLinear } from '@lmq/gptq';
import type { Site } from '@lmq/model';
import { type AffineOpts, type PresetName, rtnLinear } from '@lmq/quant-core';
import type { Backend, Linear, Matrix } from '@lmq/tensor';
import type { LayerReport, Stage } from './api.js';
import { isAsymmetric } from './plan.js';

export interface QuantizeLinearOpts {
  backend: Backend;
  signal?: AbortSignal;
}

/** What is known of the inputs of a linear. A `Hessian` or `CrossTerm` of `@lmq/quant-core` fits. */
export interface InputStatistics {
  hessian: { readonly tokens: number; read(): Promise<Matrix> };
  /** For GPTAQ; of the same tokens. */
  crossTerm?: { read(): Promise<Matrix> };
  /** For an expert that too few tokens reached, how many did: the sums are over all tokens. */
  reached?: number;
}

/**
 * Quantizes `linear`; `statistics` are those of its inputs, when there was calibration. A linear that no calibration token reached (an
 * expert, when `minTokens` is 0) is rounded to nearest, and its report says so.
 */
export async function quantizeLinear(
  { name }: Pick<Site, 'name'>,
  linear: Linear,
  statistics: InputStatistics | undefined,
  stage: Stage,
  { backend, signal }: QuantizeLinearOpts,
): Promise<{ linear: Linear; report: LayerReport }> {
  const { bits, symmetric, groupSize, clip, scaleFormat, referenceCompat } = stage;
  const affine: AffineOpts = { bits, symmetric, groupSize, clip, scaleFormat, referenceCompat, preset: stage.preset as PresetName };
  const [rows, cols] = linear.weight.shape;
  const seen = statistics && statistics.hessian.tokens > 0 ? statistics.hessian : undefined;
  const common = { name, bits, groupSize, weights: rows * cols, ...(seen && { tokens: statistics?.reached ?? seen.tokens }) };

  if (stage.method === 'rtn' || !seen) {
    const { linear: out, report } = rtnLinear(linear, seen ? { hessian: await seen.read() } : {}, affine);
    return {
      linear: out,
      report: {
        ...common,
        method: 'rtn',
        bitsPerWeight: report.bitsPerWeight,
        error: report.proxyLoss ?? report.relativeError ** 2,
        ...(stage.method !== 'rtn' && { fallback: 'no calibration token reached this linear: rounded to nearest' }),
        seconds: report.seconds,
      },
    };
  }

  const fallbacks: string[] = [];
  if (statistics?.reached !== undefined) fallbacks.push(`too few calibration tokens (${statistics.reached}): calibrated on all tokens`);
  const { actOrder, groupAware, staticGroups, dampPercent, dampIncrement, blockSize, foem } = stage;
  const crossTerm = isAsymmetric(stage) ? await statistics!.crossTerm!.read() : undefined;
  const share = (option: boolean | number) => (typeof option === 'number' ? option : undefined); // the method has the default
  const { linear: out, report } = await gptqLinear(
    linear,
    { hessian: await seen.read() },
    {
      ...affine,
      actOrder,
      groupAware,
      staticGroups,
      dampPercent,
      dampIncrement,
      blockSize,
      ...(crossTerm && { gptaq: { crossTerm, alpha: share(stage.gptaq) } }),
      ...(foem !== false && { foem: { beta: share(foem) } }),
      backend,
      signal,
    },
  );
  if (report.fallback) fallbacks.push('the Hessian could not be factored with any damping: rounded to nearest');
  return {
    linear: out,
    report: {
      ...common,
      method: 'gptq',
      bitsPerWeight: report.bitsPerWeight,
      error: report.proxyLoss ?? report.relativeError ** 2,
      ...(report.loss !== undefined && { loss: report.loss }),
      ...(report.asymmetricLoss !== undefined && { asymmetricLoss: report.asymmetricLoss }),
      dampPercent: report.dampPercent,
      ...(report.diagonalFloor > 0 && { diagonalFloor: report.diagonalFloor }),
      deadColumns: report.deadColumns,
      ...(fallbacks.length && { fallback: fallbacks.join('; ') }),
      seconds: report.seconds,
    },
  };
}
