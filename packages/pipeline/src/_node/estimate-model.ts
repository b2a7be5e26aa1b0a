/**
 * Estimates for an opened model.
 * @module
 */
import { basename, resolve } from 'node:path';
import type { Backend } from '@lmq/tensor';
import type { Recipe } from '../api.js';
import { affineBytes, type EstimateStep, estimateMemory, estimateSeconds, measureRates } from '../estimate.js';
import { planSites } from '../plan.js';
import { ggufBytesOf, planGguf } from './export-gguf.js';
import type { OpenModel } from './open-model.js';

export interface Estimate {
  /** Of all tensors in the output; exact. */
  outputBytes: number;
  /** Over the quantized linears; exact. */
  bitsPerWeight: number;
  /** Of the working folder while the work goes on. */
  workBytes: number;
  /** Processor seconds on this machine, as busy as it is now. */
  seconds: number;
  /** Resident memory at the peak, at most. */
  peakRss: number;
  steps: EstimateStep[];
}

/** What the process grows by that no array accounts for: compiled code, the garbage collector's young generation, buffers waiting to be freed. */
const RUNTIME_BYTES = { calibrates: 72e6, rounds: 32e6 };

/** Headroom for arrays that wait for the garbage collector. */
const SLACK = 1.15;

/**
 * Estimates a run of `quantizeModel`. Reads headers only.
 * @throws LmqError what `planSites` throws, so that it also serves as a check of the recipe
 */
export async function estimateModel(
  model: OpenModel,
  recipe: Recipe,
  backend: Backend,
  windows: readonly ArrayLike<number>[],
): Promise<Estimate> {
  const { checkpoint, architecture: a } = model;
  const planned = planSites(checkpoint, a, recipe);
  const sizes = { tokens: windows.reduce((n, w) => n + w.length, 0), longest: windows.reduce((n, w) => Math.max(n, w.length), 0) };
  const tensorBytes = new Map([...checkpoint.tensors.values()].map((t) => [t.name, t.bytes]));
  const quantized = new Map(planned.map((p) => [p.site.tensor, affineBytes(p.out, p.in, p.stage)]));
  let outputBytes = 0;
  if (recipe.export === 'lmq') for (const [name, bytes] of tensorBytes) outputBytes += quantized.get(name) ?? bytes;
  else {
    const described = [...checkpoint.tensors].map(
      ([name, info]) => [name, quantized.has(name) ? { ...info, format: 'affine' } : info] as const,
    );
    const view = { ...checkpoint, tensors: new Map(described) };
    const { tensors } = await planGguf(view, { folder: model.folder!, target: recipe.export, name: basename(resolve(model.folder!)) });
    for (const t of tensors) outputBytes += ggufBytesOf(t);
  }
  const weights = planned.reduce((n, p) => n + p.out * p.in, 0);
  const codeBytes = [...quantized.values()].reduce((n, b) => n + b, 0);
  const calibrates = planned.some((p) => p.stage.method !== 'rtn');
  const before = process.memoryUsage().rss;
  const { user, system } = process.cpuUsage(); // a run spends the same to get here
  const start = { step: 'start and open the model', seconds: (user + system) / 1e6 };
  const work = estimateSeconds(a, planned, sizes, await measureRates(backend), outputBytes);
  const steps = [start, ...work];
  return {
    outputBytes,
    bitsPerWeight: weights ? (codeBytes * 8) / weights : 0,
    workBytes: codeBytes + (calibrates ? 2 * sizes.tokens * a.hidden * 4 : 0),
    seconds: steps.reduce((n, s) => n + s.seconds, 0),
    peakRss: Math.round(
      before + (calibrates ? RUNTIME_BYTES.calibrates : RUNTIME_BYTES.rounds) + SLACK * estimateMemory(a, planned, sizes, tensorBytes),
    ),
    steps,
  };
}
