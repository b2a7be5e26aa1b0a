/**
 * Writing text token by token: the prompt in one pass, then one pass per token over a KV cache.
 * @module
 */
import { checkInteger, LmqError } from '@lmq/tensor';
import type { Model } from './api.js';
import { createSampler, type SampleOpts } from './sample.js';

export interface GenerateOpts extends SampleOpts {
  /** Most tokens to write. */
  maxTokens: number;
  /** Tokens that end the text; they are not yielded. Default none. */
  stop?: readonly number[];
  signal?: AbortSignal;
}

/**
 * Continues `ids`. Greedy unless a temperature is given.
 * @param ids the prompt, at least one token
 * @returns the new tokens, as they are chosen
 * @throws LmqError at the call: `argument/option`, or `argument/value` for an empty prompt or when prompt and `maxTokens` leave the context
 */
export function generate(model: Model, ids: ArrayLike<number>, opts: GenerateOpts): AsyncGenerator<number> {
  const { maxTokens, stop = [], signal } = opts;
  const { context } = model.architecture;
  checkInteger(maxTokens, 'maxTokens', 1, Number.MAX_SAFE_INTEGER, 'generate');
  if (ids.length === 0)
    throw new LmqError('argument/value', 'the prompt is empty', { op: 'generate', hint: 'Begin with the begin token.' });
  if (ids.length + maxTokens > context) {
    throw new LmqError('argument/value', "prompt and new tokens do not fit the model's context", {
      op: 'generate',
      expected: `at most ${context} tokens`,
      found: `${ids.length} + ${maxTokens}`,
      hint: `Shorten the prompt, or ask for at most ${Math.max(0, context - ids.length)} tokens.`,
    });
  }
  return run(model, ids, maxTokens, new Set(stop), createSampler(opts), signal);
}

async function* run(
  model: Model,
  prompt: ArrayLike<number>,
  maxTokens: number,
  stop: ReadonlySet<number>,
  sample: (logits: Float32Array) => number,
  signal: AbortSignal | undefined,
): AsyncGenerator<number> {
  const cache = model.createCache(prompt.length + maxTokens);
  try {
    let next = prompt;
    for (let n = 0; n < maxTokens; n++) {
      const token = sample(await lastLogits(model, next, cache, signal));
      if (stop.has(token)) return;
      yield token;
      next = [token];
    }
  } finally {
    cache.dispose();
  }
}

async function lastLogits(
  model: Model,
  ids: ArrayLike<number>,
  cache: ReturnType<Model['createCache']>,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const s = model.backend.scope({ signal });
  try {
    return (await s.read(await model.forward(s, ids, { cache, lastOnly: true }))).data;
  } finally {
    s.dispose();
  }
}
