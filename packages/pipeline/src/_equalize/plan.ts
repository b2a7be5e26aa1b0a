/**
 * Which pairs a stage equalizes, decided and checked before any work.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { SMOOTHQUANT_ALPHA } from '@lmq/equalize';
import { type Architecture, type ScalingPair, type Site, scalingPairs } from '@lmq/model';
import type { AffineOpts, PresetName } from '@lmq/quant-core';
import { LmqError } from '@lmq/tensor';
import type { EqualizeReport, EqualizeStage, Recipe, Stage } from '../api.js';
import { planInput } from '../input-quant.js';
import { isDense, type PlannedSite, planSites } from '../plan.js';

/** A pair, or readers without a producer that could take their scales: these are stored with the weights. */
export type PlannedPair = Omit<ScalingPair, 'from'> & { from: ScalingPair['from'] | null };

/** Exports that hold weights with factors beside them, as they are or decoded. */
const HOLD_RESCALED = ['lmq', 'gguf:f32'];

/** What a stage will do. */
export interface EqualizePlan {
  pairs: PlannedPair[];
  /** The grid of each linear that will be quantized, by site name. */
  grids: ReadonlyMap<string, AffineOpts>;
  /** Linears whose inputs will share a scale over all tokens, by site name. */
  perTensor: ReadonlySet<string>;
  /** Linears to clip. */
  clipped: Site[];
  /** By layer. */
  skipped: (layer: number) => EqualizeReport['skipped'];
}

/**
 * @throws LmqError what `planSites` throws; `argument/option` for trits; `model/unsupported` listing linears that are stacked with others
 * or already quantized, or when no pair is left
 */
export function planEqualize(checkpoint: Checkpoint, architecture: Architecture, recipe: Recipe, stage: EqualizeStage): EqualizePlan {
  const planned = planSites(checkpoint, architecture, recipe);
  const trits = planned.find((p) => p.stage.trits);
  if (trits && stage.method === 'awq') {
    throw new LmqError('argument/option', 'trits are not a grid that awq can search scales for', { op: 'plan', tensor: trits.site.name });
  }
  const grids = new Map(planned.map(({ site, stage }) => [site.name, gridOf(stage)]));
  const perTensor = new Set(planned.flatMap(({ site, stage: { input } }) => (input && isPerTensor(input) ? site.name : [])));
  const { pairs: all, without } = scalingPairs(architecture);
  const left = stage.method === 'awq' ? without.filter(({ site }) => grids.has(site.name)) : [];
  const rescaled = stage.method === 'awq' && stage.rescale ? left : [];
  if (rescaled.length && !HOLD_RESCALED.includes(recipe.export)) {
    throw new LmqError('export/unsupported', `${recipe.export} cannot hold factors beside a weight`, {
      op: 'plan',
      tensor: rescaled[0]!.site.name,
      expected: HOLD_RESCALED.join(', '),
      found: 'awq with rescale',
      hint: 'Leave rescale out, or export to lmq.',
    });
  }
  const pairs: PlannedPair[] = all.filter((p) => (stage.method === 'awq' || 'norm' in p.from) && p.to.some((s) => grids.has(s.name)));
  for (const { site } of rescaled) pairs.push({ layer: site.layer, input: site.input, from: null, to: [site], half: 'attention' });
  if (!pairs.length) {
    throw new LmqError('model/unsupported', `nothing for ${stage.method} to scale: the linears to quantize are in no pair`, {
      op: 'plan',
      found: planned.map((p) => p.site.name).join(', ') || 'no linear',
      hint: `Leave ${stage.method} out.`,
    });
  }
  const touched = new Set(pairs.flatMap(({ from, to }) => (from && 'linear' in from ? [from.linear, ...to] : to)));
  const bad = [...touched].filter((s) => s.slice || !isDense(checkpoint.tensors.get(s.tensor) ?? { format: 'nothing' }));
  if (bad.length) {
    throw new LmqError('model/unsupported', `${stage.method} cannot scale linears that are stacked with others or already quantized`, {
      op: 'plan',
      expected: 'fp32, fp16 or bf16, a tensor of its own',
      found: `${bad.length}: ${bad.map((s) => s.name).join(', ')}`,
      hint: `Leave ${stage.method} out.`,
    });
  }
  return {
    pairs,
    grids,
    perTensor,
    clipped: stage.method === 'awq' && stage.clip ? planned.flatMap(({ site }) => (clips(site) ? site : [])) : [],
    skipped: (layer) => (rescaled.length ? [] : left.flatMap(({ site, why }) => (site.layer === layer ? { name: site.name, why } : []))),
  };
}

/**
 * Refuses, before any work, what the stages that equalize cannot do.
 * @throws LmqError as `planEqualize`; `argument/option` for saved statistics, which are of inputs that scales change
 */
export function checkEqualize(checkpoint: Checkpoint, architecture: Architecture, recipe: Recipe, statistics: unknown): void {
  for (const stage of recipe.equalize ?? []) {
    planEqualize(checkpoint, architecture, recipe, stage);
    if (!statistics) continue;
    throw new LmqError('argument/option', `${stage.method} needs calibration text, not saved statistics`, {
      op: 'plan',
      hint: 'Scales change the inputs that the statistics are of. Leave the statistics out.',
    });
  }
}

/** The error of a product of queries and keys is not the sum of theirs; heads are no part of a block. */
const clips = ({ role }: Site) => role !== 'q' && role !== 'k' && role !== 'head';

function isPerTensor(input: NonNullable<Stage['input']>): boolean {
  const { quant } = planInput(input);
  return quant.kind === 'int8' && quant.per === 'tensor';
}

function gridOf({ bits, groupSize, symmetric, preset, scaleFormat, referenceCompat }: Stage): AffineOpts {
  return { bits, groupSize, symmetric, preset: preset as PresetName, scaleFormat, referenceCompat };
}

/** The α of a stage. */
export function alphaOf({ alpha }: { alpha?: number | 'search' }, { family }: Architecture): number | 'search' {
  return alpha ?? (Object.hasOwn(SMOOTHQUANT_ALPHA, family) ? SMOOTHQUANT_ALPHA[family]! : 0.5);
}

/**
 * What equalizing stages leave beside the quantized weights: tensors in float32, all that they change but what is quantized afterwards; and
 * which of the latter have factors.
 */
export function equalizedTensors(
  checkpoint: Checkpoint,
  architecture: Architecture,
  recipe: Recipe,
  planned: readonly PlannedSite[],
): { float32: Set<string>; rescaled: Set<string> } {
  const out = new Set<string>();
  const rescaled = new Set<string>();
  for (const stage of recipe.equalize ?? []) {
    for (const { from, to } of planEqualize(checkpoint, architecture, recipe, stage).pairs) {
      if (!from) for (const site of to) rescaled.add(site.tensor);
      else if ('norm' in from) out.add(from.norm);
      else {
        out.add(from.linear.tensor);
        if (from.linear.bias) out.add(from.linear.bias);
      }
      for (const site of to) out.add(site.tensor);
    }
  }
  for (const { site } of planned) out.delete(site.tensor);
  return { float32: out, rescaled };
}
