/**
 * The weights of a block with scales folded in, and clipped.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { awqClip, foldIntoColumns, foldIntoRows, foldIntoVector } from '@lmq/equalize';
import { decode, dense } from '@lmq/formats';
import type { Architecture, Block, Site } from '@lmq/model';
import type { CompressedTensor, Matrix } from '@lmq/tensor';
import type { ClipReport } from '../api.js';
import type { EqualizePlan, PlannedPair } from './plan.js';
import type { BlockStatistics } from './statistics.js';

export type ScaledPairs = ReadonlyMap<PlannedPair, Float32Array>;

/** What has changed. */
export interface ChangedWeights {
  linears: Map<Site, Matrix>;
  /** Norms and biases, by tensor. */
  vectors: Map<string, Float32Array>;
  /** Factors of columns that undo scales nothing else could take. */
  inputScales: Map<Site, Float32Array>;
}

/** Folds the scales of all pairs, each of which may divide the rows of a linear whose columns another multiplies. */
export async function foldBlock(
  checkpoint: Checkpoint,
  { norm }: Architecture,
  block: Block,
  scaled: ScaledPairs,
): Promise<ChangedWeights> {
  const linears = new Map<Site, Matrix>();
  const vectors = new Map<string, Float32Array>();
  const inputScales = new Map<Site, Float32Array>();
  const current = (site: Site) => linears.get(site) ?? decode(block.linears.get(site.name)!.linear.weight);
  for (const [{ from, to }, scales] of scaled) {
    for (const site of to) linears.set(site, foldIntoColumns(current(site), scales));
    if (!from) {
      for (const site of to)
        inputScales.set(
          site,
          scales.map((v) => 1 / v),
        );
      continue;
    }
    if ('norm' in from) {
      const { data } = decode(await checkpoint.read(from.norm));
      vectors.set(from.norm, foldIntoVector(data, scales, { plusOne: norm.plusOne }));
      continue;
    }
    linears.set(from.linear, foldIntoRows(current(from.linear), scales));
    const { bias } = block.linears.get(from.linear.name)!.linear;
    if (bias) vectors.set(from.linear.bias!, foldIntoVector(bias, scales));
  }
  return { linears, vectors, inputScales };
}

/** Clips linears of the block, for the grids they will be rounded to. Those that no token reached are left. */
export async function clipBlock(
  block: Block,
  { clipped, grids }: EqualizePlan,
  { hessians }: BlockStatistics,
  scaled: ScaledPairs,
  changed: ChangedWeights,
  signal: AbortSignal | undefined,
): Promise<ClipReport[]> {
  const reports: ClipReport[] = [];
  for (const site of clipped) {
    const hessian = site.layer === block.layer ? hessians.get(site.input) : undefined;
    if (!hessian?.tokens) continue;
    const scales = [...scaled].find(([{ to }]) => to.includes(site))?.[1];
    const weight = changed.linears.get(site) ?? decode(block.linears.get(site.name)!.linear.weight);
    const { backend } = block;
    const { weight: out, report } = await awqClip(weight, hessian.sum, { grid: grids.get(site.name)!, scales, backend, signal });
    changed.linears.set(site, out);
    const { clipped: share, relativeError, seconds } = report;
    reports.push({ name: site.name, clipped: share, relativeError, seconds });
  }
  return reports;
}

/** The changed tensors by name, float32. */
export function tensorsOf({ linears, vectors, inputScales }: ChangedWeights): Map<string, CompressedTensor> {
  const out = new Map<string, CompressedTensor>();
  for (const [site, { data, shape }] of linears) {
    const base = dense('fp32', data, shape[0]!, shape[1]!);
    const inputScale = inputScales.get(site);
    out.set(site.tensor, inputScale ? { kind: 'rescaled', shape: base.shape, inputScale, base } : base);
  }
  for (const [name, data] of vectors) out.set(name, dense('fp32', data, 1, data.length));
  return out;
}
