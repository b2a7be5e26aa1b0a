/**
 * What every candidate of a budget would cost, one linear at a time, all others as in the original model.
 *
 * - `weight`: |W - Ŵ|² / |W|², without calibration. By the linearity theorem of HIGGS (Malinovskii et al. 2024, arXiv 2411.17525) the loss rises by
 *   a multiple of this, which differs from linear to linear and is taken to be the same here.
 * - `output`: tr(E H Eᵀ) / tr(W H Wᵀ), the squared error of the outputs on the calibration inputs relative to the outputs, times the share that the
 *   outputs of this half of the block have in the residual stream (`InputStatistics.share`).
 * - `kl`: KL(original ‖ model with this linear quantized) of the next token on the first 8 calibration windows, nats per token.
 *
 * Errors of linears are added, which only means something where they are of one kind. The model is blind to the scale of any one linear's
 * outputs: v and o, or up and down, can trade a factor, and what reads the stream normalizes it. So absolute errors of outputs say nothing
 * beside each other; relative ones do not change with such factors. Inside a half relative errors of factors add up to that of the half, and
 * an error of the half reaches the next norm diluted by what is in the stream besides: hence the share. On lmq-nano, 4 bits and groups of
 * 128, log(KL / measure) has a standard deviation of 1.10 with weights, 0.79 with relative outputs, and 0.66 with the share; without it the
 * first block, which makes nearly all of its stream in the MLP, got the fewest bits there (docs/mixed-precision.md). KL is what counts; to
 * second order the KLs of different linears add up. An expert counts by the tokens that it serves: for `weight`, as if routing were even.
 *
 * Candidates are rounded to nearest on their grids, whatever the method: GPTQ of every candidate would take as many times as long as the run
 * itself. Beside rounding it lowers all errors of a linear alike (there to 0.58; the logarithm varies by 0.04 over the widths of a linear, by 0.23
 * from linear to linear, less than any measure is off by). Methods with grids of their own are run as they are, without statistics for
 * `weight` and `kl`.
 *
 * Memory: `weight` one block, `output` that of `calibrateBlocks`, `kl` the whole model and what the activation store keeps.
 * @module
 */
import { decode } from '@lmq/formats';
import type { Site } from '@lmq/model';
import { backendProxyLoss } from '@lmq/quant-core';
import { createPhase, type Linear, LmqError, type Matrix } from '@lmq/tensor';
import { measureKl } from './_budget/kl.js';
import { roundedStage } from './_budget/rounded-stage.js';
import type { WindowsOpts } from './_windows.js';
import type { ActivationStore } from './activations.js';
import type { Recipe } from './api.js';
import { type BudgetLinear, type LinearErrors, planBudget } from './budget.js';
import { calibrateBlocks } from './calibrate-blocks.js';
import { calibrates } from './plan.js';
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
  error: (quantized: Linear) => number | Promise<number>,
) => Promise<LinearErrors>;

/**
 * Measures the candidates of `planBudget`, block by block, in order, then of the head where it is included. When a block is yielded, the store of the
 * next block's inputs is finished and the one of its own inputs still there. What was measured goes to `allocateBudget`.
 * @throws LmqError what `planBudget` throws; `calibration/short` without windows where they are needed; `argument/value` for NaN or infinite
 * weights; `signal.reason` on abort
 */
export async function* measureBlocks(opts: MeasureBlocksOpts): AsyncGenerator<MeasuredBlock> {
  const { checkpoint, architecture, backend, recipe, signal, resume } = opts;
  const { linears } = await planBudget(checkpoint, architecture, recipe);
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
      if (stage) {
        const rounded = roundedStage(stage);
        const { linear: quantized } = await quantizeLinear(site, linear, calibrates(rounded) ? statistics : undefined, rounded, {
          backend,
          signal,
        });
        errors.push(await error(quantized));
      } else errors.push(0);
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
      const { statistics, factor } = of(l.site);
      const linear: Linear = { weight: await checkpoint.read(l.site.tensor) };
      const w = decode(linear.weight);
      const s = backend.scope({ signal });
      try {
        const h = statistics && s.upload(await statistics.hessian.read());
        const relative = async (decoded: Matrix) =>
          h ? (await backendProxyLoss(s, w, decoded, h)).relative : squaredError(w.data, decoded.data);
        block.linears.push(await tryCandidates(l, linear, statistics, async (q) => factor * (await relative(decode(q.weight)))));
      } finally {
        s.dispose();
      }
    }
    yield block;
  }
}

/**
 * Refuses, before any work, what saved statistics do not show.
 * @throws LmqError `argument/option` for KL; `argument/value` for statistics without the shares of the residual stream
 */
export function checkMeasure({ budget }: Recipe, statistics: Statistics | undefined): void {
  if (!budget || !statistics) return;
  const { file, inputs } = statistics;
  if (budget.measure === 'kl') {
    throw new LmqError('argument/option', 'KL is measured on text, and saved statistics exclude it', {
      op: 'budget',
      file,
      hint: 'Calibrate on text instead, or measure outputs.',
    });
  }
  if (budget.measure !== 'output' || [...inputs.values()].some((i) => i.share !== undefined)) return;
  throw new LmqError('argument/value', 'the statistics do not say how much of the residual stream each half of a block makes', {
    op: 'budget',
    file,
    hint: 'Collect them again: lmq calibrate. Or measure weights.',
  });
}

/** Relative to the weights. */
function squaredError(w: Float32Array, decoded: Float32Array): number {
  let error = 0;
  let whole = 0;
  for (let i = 0; i < w.length; i++) {
    error += (w[i]! - decoded[i]!) ** 2;
    whole += w[i]! ** 2;
  }
  return error && error / whole;
}

/** What is known of the inputs of linears, and what an error of their outputs counts by. */
interface KnownInputs {
  layer: number;
  of: (site: Site) => { statistics?: InputStatistics; factor: number };
}

/** Block by block, from `first` to `last`; for `weight` nothing is known. */
async function* statisticsOfBlocks(opts: MeasureBlocksOpts, first: number, last: number): AsyncGenerator<KnownInputs> {
  const { architecture, recipe, statistics: saved } = opts;
  const { moe } = architecture;
  if (recipe.budget!.measure === 'weight') {
    const even = moe ? moe.topK / moe.experts : 1;
    for (let layer = first; layer <= last; layer++) yield { layer, of: (site) => ({ factor: site.expert === undefined ? 1 : even }) };
    return;
  }
  const known = (layer: number, statisticsOf: (input: string) => InputStatistics | undefined): KnownInputs => {
    const all = statisticsOf(architecture.sites.find((s) => s.layer === layer)?.input ?? '')?.hessian.tokens ?? 0; // every token passes its attention
    return {
      layer,
      of({ input, expert }) {
        const statistics = statisticsOf(input);
        const tokens = statistics?.reached ?? statistics?.hessian.tokens ?? 0;
        return { statistics, factor: (statistics?.share ?? 1) * (expert === undefined ? 1 : tokens / all) };
      },
    };
  };
  if (saved) {
    for (let layer = first; layer <= last; layer++) yield known(layer, saved.of);
    return;
  }
  const { minTokens } = recipe.stages[0]!;
  for await (const { layer, hessians, reached, shares } of calibrateBlocks({ ...opts, minTokens, last })) {
    yield known(layer, (input) => {
      const hessian = hessians.get(input);
      return hessian && { hessian, reached: reached.get(input), share: shares.get(input) };
    });
  }
}
