/**
 * What quantizing one linear does to a model's next-token distribution. The blocks before the linear are those of the original model, whose
 * activations are kept; those after it run again for every candidate.
 * @module
 */
import { chunkRows, klDivergence, logSumExp, readLogits } from '@lmq/eval';
import { type Block, blockForward, type LoadedSite, loadBlock, loadFinalNorm, loadModel, type Model, readHead } from '@lmq/model';
import type { Handle, Scope } from '@lmq/tensor';
import { startWindows, type WindowRun } from '../_windows.js';
import type { ActivationStore } from '../activations.js';
import type { BudgetLinear } from '../budget.js';
import type { MeasureBlocksOpts, MeasuredBlock, TryCandidates } from '../measure-blocks.js';

/** Calibration windows that are looked at. */
export const KL_WINDOWS = 8;

interface KlPlan {
  linears: readonly BudgetLinear[];
  /** First and last block; the head is one more. */
  first: number;
  last: number;
  tryCandidates: TryCandidates;
}

/** Measures and yields block by block. */
export async function* measureKl(opts: MeasureBlocksOpts, { linears, first, last, tryCandidates }: KlPlan): AsyncGenerator<MeasuredBlock> {
  const { checkpoint, architecture, backend, signal } = opts;
  const run = startWindows({ ...opts, onProgress: undefined, calibration: opts.calibration?.slice(0, KL_WINDOWS) }, 'measure');
  const model = await loadModel({ checkpoint, architecture, backend, signal });
  const norm = await loadFinalNorm(checkpoint, architecture, backend);
  /** What the head reads, of a window in `s`, from the inputs of a block: through that block and all after it. */
  const statesAfter = async (s: Scope, blocks: readonly Block<LoadedSite>[], inputs: ActivationStore, window: number): Promise<Handle> => {
    let x = await run.upload(s, inputs, window);
    for (const block of blocks) {
      const y = await blockForward(s, block, x, run.context);
      s.free(x);
      x = y;
    }
    return norm.forward(s, x);
  };
  try {
    let inputs = await run.begin(opts.resume);
    const original = await run.makeStore(architecture.layers, 'float'); // what the head reads in the original model
    await run.eachWindow('run the original model', async (s, i) => {
      await original.put(i, (await s.read(await statesAfter(s, model.blocks.slice(first), inputs, i))).data);
    });
    await run.finish(original);
    for (let layer = first; layer <= last; layer++) {
      const measured: MeasuredBlock = { layer, linears: [] };
      const own = linears.filter((l) => l.site.layer === layer);
      if (layer === architecture.layers) {
        for (const l of own) {
          measured.linears.push(
            await tryCandidates(l, await readHead(checkpoint, architecture), undefined, async (quantized) => {
              const loaded = backend.load(quantized);
              try {
                const head = (s: Scope, x: Handle) => s.linear(x, loaded);
                return await meanKl(run, original, model, { head }, (s, i) => run.upload(s, original, i));
              } finally {
                loaded.dispose();
              }
            }),
          );
        }
        yield measured;
        break;
      }
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        const rest = [block, ...model.blocks.slice(layer + 1)];
        for (const l of own) {
          const { linear } = block.linears.get(l.site.name)!;
          measured.linears.push(
            await tryCandidates(l, linear, undefined, async (quantized) => {
              block.setLinear(l.site.name, quantized);
              return meanKl(run, original, model, model, (s, i) => statesAfter(s, rest, inputs, i));
            }),
          );
          block.setLinear(l.site.name, linear);
        }
        const before = inputs;
        if (layer < last) {
          inputs = await run.makeStore(layer + 1);
          await run.advance(`run block ${layer}`, block, before, inputs);
        }
        yield measured;
        if (inputs !== before) await run.remove(before);
      } finally {
        block.dispose();
      }
    }
    await run.remove(original);
    await run.remove(inputs);
  } finally {
    norm.dispose();
    model.dispose();
    await run.end();
  }
}

/** KL(original ‖ candidate), the mean over all tokens of the windows, in nats. */
async function meanKl(
  run: WindowRun,
  original: ActivationStore,
  model: Model,
  candidate: Pick<Model, 'head'>,
  statesOf: (s: Scope, window: number) => Promise<Handle>,
): Promise<number> {
  const { vocab } = model.architecture;
  const rows = chunkRows(vocab);
  let sum = 0;
  await run.eachWindow('measure', async (s, i) => {
    const states = await statesOf(s, i);
    const before = await run.upload(s, original, i);
    for (let from = 0; from < states.rows; from += rows) {
      const to = Math.min(states.rows, from + rows);
      const p = await readLogits(model, s, before, from, to);
      const q = await readLogits(candidate, s, states, from, to);
      for (let t = 0; t < to - from; t++) {
        const at = t * vocab;
        sum += klDivergence(p, logSumExp(p, at, vocab), q, logSumExp(q, at, vocab), at, vocab);
      }
    }
  });
  return Math.max(0, sum / run.tokens); // of equal distributions rounding may leave less than nothing
}
