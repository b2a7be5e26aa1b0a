/**
 * The block loop: for each transformer block, run the calibration inputs through it, quantize its linears, and run the finished block
 * once more, so that the next block, and after the last one the head, is calibrated on what it will really be given (GPTQ's protocol). With
 * GPTAQ the float model's activations run beside those of the quantized one. With saved statistics nothing runs: linears are quantized for
 * their inputs in the original model.
 *
 * Memory: one block, its Hessians, and whatever the activation store keeps (tokens x hidden float32; all of it in memory by default). GPTAQ
 * adds a cross term to each Hessian, a second store and, with true-sequential calibration, the block as it was. With saved statistics: one
 * block and one Hessian.
 * @module
 */
import { loadBlock } from '@lmq/model';
import { type CompressedTensor, createPhase, type InputQuant, type Linear, LmqError } from '@lmq/tensor';
import { calibratedBlocks } from './_calibrated-blocks.js';
import { headHome } from './_head.js';
import { usesFisher } from './_own-grids.js';
import type { WindowsOpts } from './_windows.js';
import type { ActivationStore } from './activations.js';
import type { LayerReport, Recipe } from './api.js';
import { checkExport } from './export-rules.js';
import { checkFisher, type Fisher } from './fisher.js';
import { planInput, settleInput } from './input-quant.js';
import { calibrates, type PlannedSite, planSites } from './plan.js';
import { type InputStatistics, quantizeLinear } from './quantize-linear.js';
import { checkStatistics, type Statistics } from './statistics.js';

export interface QuantizeBlocksOpts extends WindowsOpts {
  recipe: Recipe;
  /** Saved Hessians to use instead of calibrating. */
  statistics?: Statistics;
  /** Of the same weights, for stages that use it: see `collectFisher`, `openFisher`. */
  fisher?: Fisher;
  /** Go on at this block. With calibration, `inputs` and for GPTAQ `float` are its inputs, as stores of an earlier call left them. */
  resume?: { layer: number; inputs?: ActivationStore; float?: ActivationStore };
}

/** What became of one block, or of the head. */
export interface BlockResult {
  /** Of the head: the number of blocks. */
  layer: number;
  /** Quantized weights by tensor name. */
  weights: Map<string, CompressedTensor>;
  /** How inputs of linears are quantized, by the name of the weight. */
  inputs: Map<string, InputQuant>;
  layers: LayerReport[];
}

/** Where linears are while they are quantized: a block, or the head, which nothing runs afterwards. */
export interface Home {
  readonly linears: ReadonlyMap<string, { readonly linear: Linear }>;
  setLinear?(name: string, linear: Linear): void;
}

/** Quantizes linears of a block or of the head, puts the results in their place and into `result`. */
export type QuantizeSites = (
  result: BlockResult,
  home: Home,
  sites: readonly PlannedSite[],
  statistics: (input: string) => InputStatistics | undefined,
) => Promise<void>;

/**
 * Quantizes block by block, in order, then the head where it is included, and yields each; with calibration also blocks of which nothing is quantized, whose outputs the next
 * ones need. When a block is yielded, the stores of the next block's inputs are finished and those of its own inputs still there.
 * @throws LmqError what `planSites`, `checkExport`, `checkStatistics` and `checkFisher` throw; `argument/option` when a stage needs Fisher information; `calibration/short` when a method needs calibration and there is none;
 * `argument/value` for NaN or infinite weights; `signal.reason` on abort
 */
export async function* quantizeBlocks(opts: QuantizeBlocksOpts): AsyncGenerator<BlockResult> {
  const { checkpoint, architecture, backend, recipe, signal, statistics } = opts;
  if (recipe.equalize?.length) {
    throw new LmqError('argument/option', 'the weights are to be equalized first', {
      op: 'quantize',
      found: recipe.equalize.map((s) => s.method).join(', '),
      hint: 'Use quantizeModel, or lay what equalizeBlocks yields over the checkpoint and take the stages out of the recipe.',
    });
  }
  if (recipe.budget) {
    throw new LmqError('argument/option', 'the budget is to be spent first', {
      op: 'quantize',
      found: `${recipe.budget.bits} bits per weight`,
      hint: 'Use quantizeModel, or hand what measureBlocks yields to allocateBudget, and its recipe to quantizeBlocks.',
    });
  }
  const planned = planSites(checkpoint, architecture, recipe);
  await checkExport(recipe, planned);
  const { fisher } = opts;
  if (fisher) checkFisher(fisher, planned);
  else if (planned.some((p) => usesFisher(p.stage))) {
    throw new LmqError('argument/option', 'Fisher information is missing', {
      op: 'quantize',
      expected: 'squared gradients of every linear that counts its weights by them',
      hint: 'Use quantizeModel, which collects it, or collectFisher; or choose sensitivity hessian-diagonal.',
    });
  }
  const first = opts.resume?.layer ?? 0;
  let finished = planned.filter((p) => p.site.layer < first).length;
  if (finished === planned.length) return;
  const calibrated = planned.some((p) => calibrates(p.stage));
  if (calibrated && statistics) checkStatistics(statistics, planned);
  const done = createPhase('quantize', planned.length, 'linears', opts);
  done(finished);

  const quantize: QuantizeSites = async (result, home, sites, statisticsOf) => {
    for (const { site, stage } of sites) {
      const { linear } = home.linears.get(site.name)!;
      const statistics = statisticsOf(site.input);
      const { linear: quantized, report } = await quantizeLinear(site, linear, statistics, stage, {
        backend,
        signal,
        ...(fisher && { fisher: () => fisher.of(site.name)!.read() }),
      });
      result.weights.set(site.tensor, quantized.weight);
      result.layers.push(report);
      if (stage.input === undefined) home.setLinear?.(site.name, quantized);
      else {
        const { input, note } = settleInput(planInput(stage.input), statistics?.ranges);
        home.setLinear?.(site.name, { ...quantized, input });
        result.inputs.set(site.tensor, input);
        report.input = input;
        if (note) report.fallback = report.fallback ? `${report.fallback}; ${note}` : note;
      }
      done(++finished, site.name);
    }
  };

  if (calibrated && !statistics) {
    yield* calibratedBlocks(opts, planned, quantize);
    return;
  }
  for (const layer of new Set(planned.map((p) => p.site.layer))) {
    if (layer < first) continue;
    const block = layer < architecture.layers ? await loadBlock(checkpoint, architecture, layer, backend) : undefined;
    try {
      const result: BlockResult = { layer, weights: new Map(), inputs: new Map(), layers: [] };
      const sites = planned.filter((p) => p.site.layer === layer);
      await quantize(result, block ?? (await headHome(checkpoint, architecture)), sites, (input) =>
        calibrated ? statistics?.of(input) : undefined,
      );
      yield result;
    } finally {
      block?.dispose();
    }
  }
}
