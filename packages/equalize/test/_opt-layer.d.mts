import type { Backend } from '@lmq/tensor';

export function layerErrors(
  absMax: Float32Array,
  opts: { out: number; tokens: number; backend: Backend; awq?: boolean },
): Promise<Record<string, number>>;
export function spikiest(maxima: ReadonlyMap<string, Float32Array>): string;
