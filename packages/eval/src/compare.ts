/**
 * A model against its base, token by token, in one pass over the text: KL divergence and agreement see damage that perplexity averages
 * away. All sums are double.
 * @module
 */
import type { Model } from '@lmq/model';
import { createPhase, LmqError } from '@lmq/tensor';
import { klDivergence, logSumExp, rowArgmax } from './log-softmax.js';
import { chunkRows, readLogits } from './logits.js';
import type { PerplexityResult } from './perplexity.js';
import { readyWindows, type Text, type WindowOpts } from './windows.js';

export interface CompareResult extends PerplexityResult {
  /** Mean KL(base ‖ model) over the predicted tokens, nats per token. */
  kl: number;
  /** Share of predicted tokens where both models' most probable token is the same. */
  top1: number;
  /** The base's own result on the same windows. */
  base: { perplexity: number; nll: number };
}

/**
 * Perplexity of `model`, and how far it is from `base`. The two may live in different backends.
 * @throws LmqError as {@link perplexity}; `argument/value` when the vocabularies differ
 */
export async function compare(model: Model, base: Model, text: Text, opts: WindowOpts = {}): Promise<CompareResult> {
  const op = 'compare';
  const { vocab } = model.architecture;
  if (vocab !== base.architecture.vocab) {
    throw new LmqError('argument/value', 'the models have different vocabularies', { op, expected: base.architecture.vocab, found: vocab });
  }
  const shorter = model.architecture.context <= base.architecture.context ? model : base; // its context bounds both
  const { context, inputs } = readyWindows(shorter, text, opts, op);
  const start = performance.now();
  const step = createPhase('compare', inputs.length, 'windows', opts);
  const sums: Sums = { nll: 0, baseNll: 0, kl: 0, same: 0, tokens: 0 };
  step(0);
  for (const [i, input] of inputs.entries()) {
    await compareWindow(model, base, input, sums, opts.signal);
    step(i + 1);
  }
  const { tokens } = sums;
  const nll = sums.nll / tokens;
  const baseNll = sums.baseNll / tokens;
  return {
    perplexity: Math.exp(nll),
    nll,
    tokens,
    context,
    windows: inputs.length,
    seconds: (performance.now() - start) / 1000,
    kl: sums.kl / tokens,
    top1: sums.same / tokens,
    base: { perplexity: Math.exp(baseNll), nll: baseNll },
  };
}

interface Sums {
  nll: number;
  baseNll: number;
  kl: number;
  same: number;
  tokens: number;
}

async function compareWindow(model: Model, base: Model, ids: Int32Array, sums: Sums, signal: AbortSignal | undefined): Promise<void> {
  const { vocab } = model.architecture;
  const s = model.backend.scope({ signal });
  const b = base.backend.scope({ signal });
  try {
    const states = await model.hidden(s, ids);
    const baseStates = await base.hidden(b, ids);
    const last = ids.length - 1;
    const rows = chunkRows(vocab);
    for (let from = 0; from < last; from += rows) {
      const to = Math.min(last, from + rows);
      const q = await readLogits(model, s, states, from, to);
      const p = await readLogits(base, b, baseStates, from, to);
      for (let t = from; t < to; t++) {
        const at = (t - from) * vocab;
        const target = ids[t + 1]!;
        const qSum = logSumExp(q, at, vocab);
        const pSum = logSumExp(p, at, vocab);
        sums.nll += qSum - q[at + target]!;
        sums.baseNll += pSum - p[at + target]!;
        sums.kl += klDivergence(p, pSum, q, qSum, at, vocab);
        if (rowArgmax(p, at, vocab) === rowArgmax(q, at, vocab)) sums.same++;
      }
      sums.tokens += to - from;
    }
  } finally {
    s.dispose();
    b.dispose();
  }
}
