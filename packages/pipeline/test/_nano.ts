import { readFileSync } from 'node:fs';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { calibration } from '@lmq/nano';
import type { CompressedTensor } from '@lmq/tensor';
import { openModel } from '../src/_node/open-model.js';
import { readTokens } from '../src/_node/read-tokens.js';
import type { LayerReport } from '../src/api.js';
import { overlay } from '../src/overlay.js';
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
    const layers: LayerReport[] = [];
    for await (const b of quantizeBlocks({ ...opened, backend, recipe: parseRecipe(recipe), calibration: calibrationWindows })) {
      for (const [name, t] of b.weights) weights.set(name, t);
      layers.push(...b.layers);
    }
    return { weights, layers };
  }

  /** Perplexity by the protocol of the reference rows: the first 40 windows of 512 tokens. */
  async function evaluate(weights: Map<string, CompressedTensor>, count = 40) {
    const model = await loadModel({ ...opened, checkpoint: overlay(opened.checkpoint, weights), backend });
    try {
      return (await perplexity(model, ids, { context: 512, windows: count })).perplexity;
    } finally {
      model.dispose();
    }
  }
  return { ...opened, backend, ids, quantize, evaluate };
}
