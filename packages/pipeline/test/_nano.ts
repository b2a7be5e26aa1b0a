import { readFileSync } from 'node:fs';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { calibration } from '@lmq/nano';
import type { CompressedTensor, InputQuant } from '@lmq/tensor';
import { openModel } from '../src/_node/open-model.js';
import { readTokens } from '../src/_node/read-tokens.js';
import type { LayerReport } from '../src/api.js';
import { collectFisher } from '../src/fisher.js';
import { overlay } from '../src/overlay.js';
import { planSites, usesFisher } from '../src/plan.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';

/** The 64 x 512 ids that the reference rows were calibrated on. */
export const windows = JSON.parse(readFileSync(calibration, 'utf8')) as number[][];

/** lmq-nano on kernels-wasm, with what the tests ask of it. */
export async function openNano() {
  const backend = await wasmBackend();
  const opened = await openModel('lmq-nano');
  const tokens = await readTokens(opened.builtIn!.validation, opened.tokenizer, opened.architecture.vocab);
  const ids = 'ids' in tokens ? tokens.ids : [];

  async function quantize(recipe: unknown, calibrationWindows = windows) {
    const weights = new Map<string, CompressedTensor>();
    const inputs = new Map<string, InputQuant>();
    const layers: LayerReport[] = [];
    const parsed = parseRecipe(recipe);
    const common = { ...opened, backend, calibration: calibrationWindows };
    const users = planSites(opened.checkpoint, opened.architecture, parsed).filter((p) => usesFisher(p.stage));
    const fisher = users.length ? await collectFisher({ ...common, sites: users.map((p) => p.site) }) : undefined;
    for await (const b of quantizeBlocks({ ...common, recipe: parsed, fisher })) {
      for (const [name, t] of b.weights) weights.set(name, t);
      for (const [name, input] of b.inputs) inputs.set(name, input);
      layers.push(...b.layers);
    }
    return { weights, inputs, layers };
  }

  /** Perplexity by the protocol of the reference rows: the first 40 windows of 512 tokens. */
  async function evaluate(weights: Map<string, CompressedTensor>, count = 40) {
    return (await measure({ weights }, count)).perplexity;
  }

  /** The same of a result of `quantize`, and the share of outlier columns. */
  async function measure(
    { weights, inputs }: { weights: Map<string, CompressedTensor>; inputs?: Map<string, InputQuant> },
    count = 40,
    base = opened.checkpoint,
  ) {
    const model = await loadModel({ ...opened, checkpoint: overlay(base, weights, inputs), backend });
    try {
      const { perplexity: ppl } = await perplexity(model, ids, { context: 512, windows: count });
      return { perplexity: ppl, outliers: model.outliers && model.outliers.columns / model.outliers.of };
    } finally {
      model.dispose();
    }
  }
  return { ...opened, backend, ids, quantize, evaluate, measure };
}
