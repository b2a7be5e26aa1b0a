import type { Checkpoint } from '@lmq/checkpoints';
import type { Architecture, ScalingPair } from '@lmq/model';
import type { CompressedTensor } from '@lmq/tensor';

export type FactorsOf = (pair: Pick<ScalingPair, 'layer' | 'half'>) => Float32Array;
export function optFactors(
  maxima: ReadonlyMap<string, Float32Array>,
  architecture: Pick<Architecture, 'layers' | 'hidden'>,
  growth?: number,
): FactorsOf;
export function plantOutliers(
  model: { checkpoint: Checkpoint; architecture: Architecture },
  factorsOf: FactorsOf,
): Promise<Map<string, CompressedTensor>>;
