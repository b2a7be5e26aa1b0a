/**
 * What every candidate of a budget would cost, one linear at a time, all others as in the original model.
 *
 * - `weight`: |W - Ŵ|² / |W|², without calibration. By the linearity theorem of HIGGS (Malinovskii et al. 2024, arXiv 2411.17525) the loss rises by
 *   a multiple of this, which differs from linear to linear and is taken to be the same here.
 * - `output`: tr(E H Eᵀ) / tr(W H Wᵀ), the squared error of the outputs on the calibration inputs, relative to the outputs.
 * - `kl`: KL(original ‖ model with this linear quantized) of the next token on calibration windows, nats per token.
 *
 * Errors of linears are added, which only means something where they are of one kind. Norms and products make a model blind to the scale of any
 * one linear's output (v and o, up and down can trade a factor; a norm takes out that of the stream), so absolute errors say nothing
 * beside each other, and shares do. An expert counts by the tokens that it serves: for `weight`, as if routing were even. KL is what counts
 * itself; to second order the errors of different linears add up.
 *
 * Candidates are rounded to nearest on their grids, whatever the method: GPTQ of every candidate would take as many times as long as the run
 * itself. Methods with grids of their own are run as they are, without statistics for `weight` and `kl`.
 *
 * Memory: `weight` one block, `output` that of `calibrateBlocks`, `kl` the whole model and what the activation store keeps.
 * @module
 */
import type { Site } from '@lmq/model';
import { createPhase, type Linear } from '@lmq/tensor';
import { measureKl } from './_budget/kl.js';
import { isOwnGrid } from './_own-grids.js';
import type { WindowsOpts } from './_windows.js';
import type { ActivationStore } from './activations.js';
import type { Recipe, Stage } from './api.js';
import { type BudgetLinear, type LinearErrors, planBudget } from './budget.js';
import { calibrateBlocks } from './calibrate-blocks.js';
import { type InputStatistics, quantizeLinear } from './quantize-linear.js';
import type { Statistics } from './statistics.js';

export interface MeasureBlocksOpts extends WindowsOpts {
  /** With a budget. */
  recipe: Recipe;
  /** Saved Hessians to use instead of calibrating, for `output`. */
  statistics?: Statistics;
  /** Go on at this block. With calibration, `inputs` are its inputs, as stores of an earlier call left them. */
  resume?: { layer: number; inputs?: ActivationStore };
}

/** The errors of one block, or of the head. */
export interface MeasuredBlock {
  /** Of the head: the number of blocks. */
  layer: number;
  linears: LinearErrors[];
}

/** Quantizes a linear as each of its candidates says, one after the other, and asks for the errors. */
export type TryCandidates = (
  of: BudgetLinear,
  linear: Linear,
  statistics: InputStatistics | undefined,
  error: (quantized: QuantizedSite) => number | Promise<number>,
) => Promise<LinearErrors>;

type QuantizedSite = Awaited<ReturnType<typeof quantizeLinear>>;

/**
 * Measures the candidates of `planBudget`, block by block, in order, then of the head where it is included. When a block is yielded, the store of the
 * next block's inputs is finished and the one of its own inputs still there. What was measured goes to `allocateBudget`.
 * @throws LmqError what `planBudget` throws; `calibration/short` without windows where they are needed; `argument/value` for NaN or infinite
 * weights; `signal.reason` on abort
 */
export async function* measureBlocks(opts: MeasureBlocksOpts): AsyncGenerator<MeasuredBlock> {
  const { checkpoint, architecture, backend, recipe, signal, resume } = opts;
  const { linears } = planBudget(checkpoint, architecture, recipe);
  const first = resume?.layer ?? 0;
  const last = Math.max(...linears.map((l) => l.site.layer));
  if (first > last) {
    await resume?.inputs?.dispose();
    return;
  }
  const count = (all: readonly BudgetLinear[]) => all.reduce((n, l) => n + l.candidates.length, 0);
  const step = createPhase('measure', count(linears), 'candidates', opts);
  let done = count(linears.filter((l) => l.site.layer < first));
  step(done);
  const tryCandidates: TryCandidates = async ({ site, candidates }, linear, statistics, error) => {
    const errors: number[] = [];
    for (const { stage } of candidates) {
      errors.push(stage ? await error(await quantizeLinear(site, linear, statistics, roundedStage(stage), { backend, signal })) : 0);
      step(++done, site.name);
    }
    return { name: site.name, errors };
  };
  if (recipe.budget!.measure === 'kl') {
    yield* measureKl(opts, { linears, first, last, tryCandidates });
    return;
  }
  for await (const { layer, of } of statisticsOfBlocks(opts, first, last)) {
    const block: MeasuredBlock = { layer, linears: [] };
    for (const l of linears) {
      if (l.site.layer !== layer) continue;
      const { statistics, share } = of(l.site);
      const linear: Linear = { weight: await checkpoint.read(l.site.tensor) };
      block.linears.push(await tryCandidates(l, linear, statistics, ({ report }) => share * report.error));
    }
    yield block;
  }
}

/** The same grid, rounded to nearest. */
function roundedStage(stage: Stage): Stage {
  return isOwnGrid(stage.method) ? stage : { ...stage, method: 'rtn' };
}

/** What is known of the inputs of linears, and the share of the tokens that reaches them. */
interface KnownInputs {
  layer: number;
  of: (site: Site) => { statistics?: InputStatistics; share: number };
}

/** Block by block, from `first` to `last`; for `weight` nothing is known. */
async function* statisticsOfBlocks(opts: MeasureBlocksOpts, first: number, last: number): AsyncGenerator<KnownInputs> {
  const { architecture, recipe, statistics: saved } = opts;
  const { moe } = architecture;
  if (recipe.budget!.measure === 'weight') {
    const even = moe ? moe.topK / moe.experts : 1;
    for (let layer = first; layer <= last; layer++) yield { layer, of: (site) => ({ share: site.expert === undefined ? 1 : even }) };
    return;
  }
  const known = (layer: number, statisticsOf: (input: string) => InputStatistics | undefined): KnownInputs => {
    const all = statisticsOf(architecture.sites.find((s) => s.layer === layer)?.input ?? '')?.hessian.tokens ?? 0; // every token passes its attention
    return {
      layer,
      of({ input, expert }) {
        const statistics = statisticsOf(input);
        const tokens = statistics?.reached ?? statistics?.hessian.tokens ?? 0;
        return { statistics, share: expert === undefined ? 1 : tokens / all };
      },
    };
  };
  if (saved) {
    for (let layer = first; layer <= last; layer++) yield known(layer, saved.of);
    return;
  }
  const { minTokens } = recipe.stages[0]!;
  for await (const { layer, hessians, reached } of calibrateBlocks({ ...opts, minTokens })) {
    yield known(layer, (input) => {
      const hessian = hessians.get(input);
      return hessian && { hessian, reached: reached.get(input) };
    });
    if (layer === last) return;
  }
}
