/**
 * Choosing the next token: greedy, or drawn after temperature, top-k (Fan et al. 2018) and top-p (Holtzman et al. 2020), in that order.
 * Probabilities are computed in double.
 * @module
 */
import { checkInteger, createRng, LmqError } from '@lmq/tensor';

export interface SampleOpts {
  /** Logits are divided by it. 0 takes the most probable token. Default 0. */
  temperature?: number;
  /** Keep only this many of the most probable tokens; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the smallest set of most probable tokens whose probabilities reach this sum. Default 1: all. */
  topP?: number;
  /** Default 0. The same seed draws the same tokens from the same logits. */
  seed?: number;
}

/** Tokens that may be drawn, most probable first (equal ones by id), with probabilities that sum to 1. */
export interface Candidates {
  ids: number[];
  probabilities: Float64Array;
}

/** Index of the largest logit; the lowest of equal ones. @throws LmqError `argument/value` when one is NaN or +Infinity */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i]!;
    if (!(x < Infinity)) throw notNumbers();
    if (x > logits[best]!) best = i;
  }
  return best;
}

/**
 * Applies temperature, top-k and top-p to logits.
 * @throws LmqError `argument/option` for values out of range, `argument/value` for logits that are not numbers
 */
export function candidates(logits: Float32Array, opts: SampleOpts): Candidates {
  const { temperature, topK, topP } = checkSampleOpts(opts);
  const best = argmax(logits);
  if (temperature === 0) return { ids: [best], probabilities: Float64Array.of(1) };
  const largest = logits[best]!;
  let floor = -Infinity;
  if (topK > 0 && topK < logits.length) floor = logits.slice().sort()[logits.length - topK]!;
  let ids: number[] = [];
  for (let i = 0; i < logits.length; i++) if (logits[i]! >= floor && logits[i] !== -Infinity) ids.push(i);
  ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (topK > 0) ids = ids.slice(0, topK); // ties at the floor: the lowest ids stay
  let p = normalised(Float64Array.from(ids, (i) => Math.exp((logits[i]! - largest) / temperature)));
  if (topP < 1) {
    let sum = 0;
    let n = 0;
    while (n < p.length && sum < topP) sum += p[n++]!;
    ids = ids.slice(0, n);
    p = normalised(p.slice(0, n));
  }
  return { ids, probabilities: p };
}

/**
 * A stream of choices with its own random numbers.
 * @returns a function from logits [vocab] to a token id
 * @throws LmqError `argument/option` for options out of range
 */
export function createSampler(opts: SampleOpts = {}): (logits: Float32Array) => number {
  const { temperature } = checkSampleOpts(opts);
  if (temperature === 0) return argmax;
  const rng = createRng(opts.seed);
  return (logits) => {
    const { ids, probabilities } = candidates(logits, opts);
    let left = rng.uniform();
    for (let i = 0; i < ids.length; i++) {
      left -= probabilities[i]!;
      if (left < 0) return ids[i]!;
    }
    return ids[ids.length - 1]!; // rounding left a sliver
  };
}

function checkSampleOpts({ temperature = 0, topK = 0, topP = 1 }: SampleOpts): Required<Omit<SampleOpts, 'seed'>> {
  const op = 'sample';
  if (!(temperature >= 0 && temperature <= 1000)) {
    throw new LmqError('argument/option', 'temperature is out of range', { op, expected: '0 … 1000', found: temperature });
  }
  if (!(topP > 0 && topP <= 1)) throw new LmqError('argument/option', 'topP is out of range', { op, expected: '(0, 1]', found: topP });
  checkInteger(topK, 'topK', 0, 2 ** 31, op);
  return { temperature, topK, topP };
}

function normalised(p: Float64Array): Float64Array {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += p[i]!;
  for (let i = 0; i < p.length; i++) p[i]! /= sum;
  return p;
}

function notNumbers(): LmqError {
  return new LmqError('argument/value', "the model's logits are not finite", {
    op: 'sample',
    hint: 'Activations overflowed or weights are damaged: check the model with eval.',
  });
}
