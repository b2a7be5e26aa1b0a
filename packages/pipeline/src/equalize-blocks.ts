/**
 * The block loop of a stage that equalizes: for each transformer block of the float model, look at the inputs of its linears, find scales for
 * every pair, fold them in, and with AWQ clip. What comes out is a model that computes the same, but for clipping, and is easier to quantize;
 * inputs of later blocks are those of the original model (as in the published code of AWQ and SmoothQuant).
 *
 * All pairs of a block are searched on the block as it was, then folded, then clipped: the order of llm-awq. Results are float32, so that
 * folding loses nothing that matters before the weights are quantized; norms stay float32 in the output.
 *
 * Memory: one block, its Hessians (AWQ), and whatever the activation store keeps: before, inside and after a block. AWQ runs the windows 20
 * times through both halves of every block.
 * @module
 */
import { loadBlock } from '@lmq/model';
import { type CompressedTensor, createPhase } from '@lmq/tensor';
import { clipBlock, foldBlock, tensorsOf } from './_equalize/fold.js';
import { type EqualizePlan, type PlannedPair, planEqualize } from './_equalize/plan.js';
import { searchPair } from './_equalize/search.js';
import { type BlockStatistics, observeBlock } from './_equalize/statistics.js';
import { fewestTokens } from './_starved.js';
import { startWindows, type WindowRun, type WindowsOpts } from './_windows.js';
import type { ActivationStore } from './activations.js';
import type { EqualizeReport, EqualizeStage, Recipe } from './api.js';

export interface EqualizeBlocksOpts extends WindowsOpts {
  recipe: Recipe;
  /** One of `recipe.equalize`. */
  stage: EqualizeStage;
  /** Go on at this block, with its inputs as a store of an earlier call left them. */
  resume?: { layer: number; inputs?: ActivationStore };
}

/** What became of one block. */
export interface EqualizedBlock {
  layer: number;
  /** Changed tensors by name, float32; with `rescale` some as `rescaled` float32. */
  weights: Map<string, CompressedTensor>;
  report: EqualizeReport;
}

/**
 * Equalizes block by block, in order, and yields what changed; lay it over the checkpoint (`overlay`) before the next stage. When a block is
 * yielded, the store of the next block's inputs is finished and the one of its own inputs still there.
 * @throws LmqError what `planSites` throws; `model/unsupported` listing linears that cannot be scaled; `calibration/short` without windows;
 * `argument/value` for NaN or infinite weights; `signal.reason` on abort
 */
export async function* equalizeBlocks(opts: EqualizeBlocksOpts): AsyncGenerator<EqualizedBlock> {
  const { checkpoint, architecture, backend, recipe, stage, resume, signal } = opts;
  const plan = planEqualize(checkpoint, architecture, recipe, stage);
  const last = Math.max(...plan.pairs.map((p) => p.layer));
  const first = resume?.layer ?? 0;
  if (first > last) {
    await resume?.inputs?.dispose();
    return;
  }
  const run = startWindows(opts, 'equalize');
  const done = createPhase(stage.method, last + 1, 'blocks', opts);
  done(first);
  try {
    let inputs = await run.begin(resume);
    for (let layer = first; layer <= last; layer++) {
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      let statistics: BlockStatistics | undefined;
      try {
        const streams = { inputs, attention: await run.makeStore(layer, 'attention'), outputs: await run.makeStore(layer + 1) };
        statistics = await observeBlock(run, block, wantedOf(plan, stage, layer), streams);
        const scaled = new Map<PlannedPair, Float32Array>();
        const report: EqualizeReport = { pairs: [], clips: [], skipped: plan.skipped(layer) };
        for (const pair of plan.pairs) {
          if (pair.layer !== layer) continue;
          const why = tooFew(run, statistics, pair);
          if (why) {
            for (const { name } of pair.to) report.skipped.push({ name, why });
            continue;
          }
          const found = await searchPair(run, block, { ...plan, stage, signal }, pair, statistics, streams);
          scaled.set(pair, found.scales);
          report.pairs.push(found.report);
        }
        const changed = await foldBlock(checkpoint, architecture, block, scaled);
        report.clips = await clipBlock(block, plan, statistics, scaled, changed, signal);
        yield { layer, weights: tensorsOf(changed), report };
        done(layer + 1);
        await run.remove(streams.attention);
        await run.remove(inputs);
        inputs = streams.outputs;
      } finally {
        statistics?.dispose();
        block.dispose();
      }
    }
    await run.remove(inputs);
  } finally {
    await run.end();
  }
}

/** Which inputs to look at, and how. A single linear is judged by its Hessian: the half's output would be the same measure and cost more. */
function wantedOf(plan: EqualizePlan, stage: EqualizeStage, layer: number) {
  const pairs = plan.pairs.filter((p) => p.layer === layer);
  const inputs = new Set(pairs.map((p) => p.input));
  const clipped = plan.clipped.flatMap((s) => (s.layer === layer ? s.input : []));
  const single = pairs.flatMap((p) => (stage.method === 'awq' && (!p.from || 'linear' in p.from) ? p.input : []));
  return {
    channels: inputs,
    hessians: new Set([...single, ...clipped]),
    samples: stage.method === 'smoothquant' && stage.alpha === 'search' ? inputs : new Set<string>(),
  };
}

/** Why a pair is left alone: an expert that hardly any token reached, whose scales would be noise. */
function tooFew(run: WindowRun, { channels }: BlockStatistics, { input, to }: PlannedPair): string | undefined {
  const { tokens } = channels.get(input)!;
  const fewest = to[0]!.expert === undefined ? 1 : fewestTokens(run.context.architecture, run.tokens);
  return tokens < fewest ? `too few calibration tokens (${tokens})` : undefined;
}
