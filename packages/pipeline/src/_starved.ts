/**
 * Experts that too few calibration tokens reach. GPTQ would fit them to those few and spoil them for all others, so they are calibrated on
 * all tokens, as if the router had sent them there: gate and up read what the router reads, down what the expert's own gate and up make of
 * that. One more pass over the windows, in blocks that have starved experts.
 * @module
 */
import { type Architecture, type Block, blockForward, type Site } from '@lmq/model';
import { createCrossTerm, createHessian } from '@lmq/quant-core';
import type { Handle } from '@lmq/tensor';
import { expertInput, floatPass } from './_float-inputs.js';
import { disposeSums, type Sums } from './_sums.js';
import type { WindowRun } from './_windows.js';
import type { ActivationStore } from './activations.js';

/** Least share of the tokens of even routing; as in GPTQModel's fallback. */
const LEAST_SHARE = 0.005;

/** Fewest tokens that an expert is calibrated on alone when nothing else is said: 0.5 % of what even routing gives each, and at least 1. */
export function fewestTokens({ moe }: Architecture, tokens: number): number {
  return moe ? Math.max(1, Math.ceil((LEAST_SHARE * tokens * moe.topK) / moe.experts)) : 0;
}

/** Activations before a block, and the block; `original` and `float` are the float model's. */
export interface StarvedOpts {
  block: Block;
  inputs: ActivationStore;
  original?: Block;
  float?: ActivationStore;
  /** Fewest tokens of an expert that is not starved; 0: none is. */
  fewest: number;
}

/**
 * Replaces the sums of starved experts' inputs by those of all tokens.
 * @param sites linears to do this for; those outside experts see every token anyway
 * @param sums by input; changed in place. Those of starved gate and up linears will be one
 */
export async function feedStarved(
  run: WindowRun,
  sites: Iterable<Site>,
  sums: Map<string, Sums>,
  { block, inputs, original, float, fewest }: StarvedOpts,
): Promise<void> {
  const starved = new Map<string, Site>();
  for (const site of sites) {
    const own = sums.get(site.input);
    if (site.expert !== undefined && own && own.hessian.tokens < fewest) starved.set(site.input, site);
  }
  if (!starved.size) return;
  const router = block.at('router').site.input;
  const fed = new Map<string, Sums & { site: Site }>(); // by what is read
  const wanted = new Set<string>();
  for (const [input, site] of starved) {
    const old = sums.get(input)!;
    const read = site.role === 'down' ? input : router;
    const own = fed.get(read) ?? { site, hessian: createHessian(block.backend, old.hessian.width) };
    fed.set(read, own);
    if (old.crossTerm) own.crossTerm ??= createCrossTerm(block.backend, old.hessian.width);
    if (old.crossTerm) wanted.add(own.site.input);
    sums.set(input, { hessian: own.hessian, crossTerm: own.crossTerm, ranges: old.ranges, reached: old.hessian.tokens });
    disposeSums([old]);
  }
  const { activation } = run.context.architecture.mlp;
  await run.eachWindow(`calibrate starved experts of block ${block.layer}`, async (s, i) => {
    const floats = wanted.size ? await floatPass(s, original!, await run.upload(s, float!, i), run.context, wanted) : undefined;
    let states: Handle | undefined;
    await blockForward(s, block, await run.upload(s, inputs, i), {
      ...run.context,
      tap: (input, x) => {
        if (input === router) states = s.copy(x);
      },
    });
    for (const { site, hessian, crossTerm } of fed.values()) {
      const own = s.backend.scope();
      try {
        const x = expertInput(own, block, site, states!, activation);
        hessian.add(x);
        crossTerm?.add(floats!.of(own, site.input, true), x);
        await s.flush();
      } finally {
        own.dispose();
      }
    }
  });
}
