/**
 * Hessians of every linear input of the original model, block by block: what a sweep over bits and options needs of the calibration text.
 *
 * Memory: one block, its Hessians, and whatever the activation store keeps. One pass over the windows a block, one
 * more where experts are starved (see `Stage.minTokens`), and one through the final norm when the model has a head of its own.
 * @module
 */
import { type Architecture, attentionForward, headSite, loadBlock, loadFinalNorm, mlpForward, type Role, siteShape } from '@lmq/model';
import { createHessian, type Hessian } from '@lmq/quant-core';
import { createShares } from './_shares.js';
import { feedStarved, fewestTokens } from './_starved.js';
import { disposeSums, type Sums } from './_sums.js';
import { startWindows, type WindowsOpts } from './_windows.js';
import type { ActivationStore } from './activations.js';

export interface CalibrateBlocksOpts extends WindowsOpts {
  /** As `Stage.minTokens`. */
  minTokens?: number;
  /** Block to stop after; the head is one more than the blocks. Default: the head, or where it is the embedding matrix the last block. */
  last?: number;
  /** Go on at this block, with its inputs as a store of an earlier call left them. */
  resume?: { layer: number; inputs?: ActivationStore };
}

/** What was collected in one block, or before the head. */
export interface BlockStatistics {
  /** Of the head: the number of blocks. */
  layer: number;
  /** By `Site.input`; freed when the generator goes on. Starved experts may share one. */
  hessians: ReadonlyMap<string, Hessian>;
  /** Inputs of starved experts, whose Hessians are of all tokens, with how many tokens reached them. */
  reached: ReadonlyMap<string, number>;
  /** How much of the residual stream the half that an input is in makes; see `InputStatistics.share`. */
  shares: ReadonlyMap<string, number>;
}

/** Widths of the inputs whose statistics are collected, in the order of a forward pass: those of all linears but routers and tied heads. */
export function calibratedInputs(architecture: Architecture): Map<string, { layer: number; width: number }> {
  const sites = architecture.sites.filter((s) => s.role !== 'router');
  if (!architecture.tied) sites.push(headSite(architecture));
  return new Map(sites.map((s) => [s.input, { layer: s.layer, width: siteShape(architecture, s)[1] }]));
}

/**
 * Runs the calibration windows through the model and yields each block's Hessians, then the head's. When a block is yielded, the store of the next block's
 * inputs is finished and the one of its own inputs still there.
 * @throws LmqError `calibration/short` without windows; `argument/value` for NaN or infinite weights; `signal.reason` on abort
 */
export async function* calibrateBlocks(opts: CalibrateBlocksOpts): AsyncGenerator<BlockStatistics> {
  const { checkpoint, architecture, backend, resume } = opts;
  const { layers, tied } = architecture;
  const last = opts.last ?? (tied ? layers - 1 : layers);
  if (resume && resume.layer > last) return;
  const run = startWindows(opts, 'calibrate');
  const fewest = opts.minTokens ?? fewestTokens(architecture, run.tokens);
  try {
    let inputs = await run.begin(resume);
    const all = [...calibratedInputs(architecture)];
    for (let layer = resume?.layer ?? 0; layer < Math.min(layers, last + 1); layer++) {
      const sums = new Map<string, Sums>();
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        for (const [input, own] of all) if (own.layer === layer) sums.set(input, { hessian: createHessian(backend, own.width) });
        const before = inputs;
        const tap = (input: string, x: Parameters<Hessian['add']>[0]) => sums.get(input)?.hessian.add(x);
        const out = layer < last ? await run.makeStore(layer + 1) : undefined;
        const shares = createShares(architecture.hidden);
        await run.eachWindow(`calibrate block ${layer}`, async (s, i) => {
          const h = await attentionForward(s, block, await run.upload(s, before, i), { ...run.context, tap });
          const y = await mlpForward(s, block, h, { ...run.context, tap });
          const { data } = await s.read(y);
          shares.add(await before.get(i), (await s.read(h)).data, data);
          await out?.put(i, data);
        });
        if (out) {
          await run.finish(out);
          inputs = out;
        }
        const sites = architecture.sites.filter((s) => s.layer === layer);
        await feedStarved(run, sites, sums, { block, inputs: before, fewest });
        yield {
          layer,
          hessians: new Map([...sums].map(([input, { hessian }]) => [input, hessian])),
          reached: new Map([...sums].flatMap(([input, { reached }]) => (reached === undefined ? [] : [[input, reached] as const]))),
          shares: new Map(sites.map((site) => [site.input, shares.of(site.role as Role)])), // no head in a block
        };
        await run.remove(before);
      } finally {
        disposeSums(sums.values());
        block.dispose();
      }
    }
    if (last < layers) return;
    const norm = await loadFinalNorm(checkpoint, architecture, backend);
    const hessian = createHessian(backend, architecture.hidden);
    try {
      await run.eachWindow('calibrate head', async (s, i) => hessian.add(norm.forward(s, await run.upload(s, inputs, i))));
      yield { layer: layers, hessians: new Map([[headSite(architecture).input, hessian]]), reached: new Map(), shares: new Map() };
      await run.remove(inputs);
    } finally {
      hessian.dispose();
      norm.dispose();
    }
  } finally {
    await run.end();
  }
}
