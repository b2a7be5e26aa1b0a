/**
 * Perplexity: exp of the mean loss over all predicted tokens. Losses are summed in double.
 * @module
 */
import type { Model } from '@lmq/model';
import { createPhase } from '@lmq/tensor';
import { negativeLogLikelihood } from './log-softmax.js';
import { chunkRows, readLogits } from './logits.js';
import { readyWindows, type Text, type WindowOpts } from './windows.js';

export interface PerplexityResult {
  /** exp(nll). */
  perplexity: number;
  /** Mean loss, nats per token. */
  nll: number;
  /** Tokens that were predicted: `windows * (context - 1)`, or `windows * context` with a begin token. */
  tokens: number;
  context: number;
  windows: number;
  seconds: number;
}

/**
 * Perplexity of a model on a text.
 * @param text the whole text's token ids, or windows of them
 * @throws LmqError `calibration/short` for a text that does not fill the windows, `argument/option`, `argument/value`; the abort reason
 */
export async function perplexity(model: Model, text: Text, opts: WindowOpts = {}): Promise<PerplexityResult> {
  const { context, inputs } = readyWindows(model, text, opts, 'perplexity');
  const start = performance.now();
  const step = createPhase('evaluate', inputs.length, 'windows', opts);
  let sum = 0;
  let tokens = 0;
  step(0);
  for (const [i, input] of inputs.entries()) {
    for (const loss of await windowLosses(model, input, opts.signal)) sum += loss;
    tokens += input.length - 1;
    step(i + 1);
  }
  const nll = sum / tokens;
  return { perplexity: Math.exp(nll), nll, tokens, context, windows: inputs.length, seconds: (performance.now() - start) / 1000 };
}

/**
 * Losses of the tokens after the first: element t is −ln p(ids[t + 1] | ids[0 … t]), in nats.
 * @param ids at least two, at most the model's context
 */
export async function windowLosses(model: Model, ids: ArrayLike<number>, signal?: AbortSignal): Promise<Float64Array> {
  const { vocab } = model.architecture;
  const losses = new Float64Array(ids.length - 1);
  const s = model.backend.scope({ signal });
  try {
    const states = await model.hidden(s, ids);
    const rows = chunkRows(vocab);
    for (let from = 0; from < losses.length; from += rows) {
      const to = Math.min(losses.length, from + rows);
      const logits = await readLogits(model, s, states, from, to);
      for (let t = from; t < to; t++) losses[t] = negativeLogLikelihood(logits, (t - from) * vocab, vocab, ids[t + 1]!);
    }
    return losses;
  } finally {
    s.dispose();
  }
}
