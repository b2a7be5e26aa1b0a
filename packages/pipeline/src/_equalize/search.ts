/**
 * The scales of one pair, by the method of the stage.
 * @module
 */
import { awqScales, smoothQuant } from '@lmq/equalize';
import { decode } from '@lmq/formats';
import type { Block } from '@lmq/model';
import type { WindowRun } from '../_windows.js';
import type { EqualizeStage, PairReport } from '../api.js';
import { type HalfStreams, halfError } from './half-error.js';
import { alphaOf, type EqualizePlan, type PlannedPair } from './plan.js';
import type { BlockStatistics } from './statistics.js';

export async function searchPair(
  run: WindowRun,
  block: Block,
  { stage, grids, perTensor, signal }: Pick<EqualizePlan, 'grids' | 'perTensor'> & { stage: EqualizeStage; signal?: AbortSignal },
  pair: PlannedPair,
  { channels, hessians, samples }: BlockStatistics,
  streams: HalfStreams,
): Promise<{ scales: Float32Array; report: PairReport }> {
  const { referenceCompat } = stage;
  const { backend } = block;
  const activations = pair.to.some((site) => perTensor.has(site.name)) ? 'tensor' : 'token'; // as they will be rounded at run time
  const stats = channels.get(pair.input)!.read();
  const weights = pair.to.map((site) => decode(block.linears.get(site.name)!.linear.weight));
  const found =
    stage.method === 'awq'
      ? await awqScales(
          {
            linears: weights.map((weight, i) => ({ weight, grid: grids.get(pair.to[i]!.name) })),
            stats: { meanAbs: stats.meanAbs, hessian: hessians.get(pair.input)?.sum },
            // A single linear is judged by its own output, as in the published code; H has that of all tokens at once.
            outputError: pair.from && 'norm' in pair.from ? halfError(run, block, pair, streams) : undefined,
          },
          { duoScaling: stage.duoScaling, referenceCompat, backend, signal },
        )
      : await smoothQuant(
          { linears: weights, stats: { absMax: stats.absMax, sample: samples.get(pair.input) } },
          { alpha: alphaOf(stage, run.context.architecture), activations, referenceCompat, backend, signal },
        );
  const { scales, report } = found;
  return {
    scales,
    report: {
      method: stage.method,
      from: pair.from && ('norm' in pair.from ? pair.from.norm : pair.from.linear.name),
      to: pair.to.map((s) => s.name),
      ...('ratio' in report ? { ratio: report.ratio } : { alpha: report.alpha }),
      ...(report.error !== undefined && { error: report.error }),
      ...(report.plainError !== undefined && { plainError: report.plainError }),
      scales: [scales.reduce((a, b) => Math.min(a, b)), scales.reduce((a, b) => Math.max(a, b))],
      seconds: report.seconds,
    },
  };
}
