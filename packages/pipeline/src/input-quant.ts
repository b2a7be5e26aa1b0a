/**
 * How a recipe says that inputs of linears are quantized at run time (`Linear.input`), and what becomes of it: the same for an input whose
 * scale is found at run time; a scale that calibration has found for one that is static.
 *
 * The names are SmoothQuant's levels (Xiao et al. 2023, table 2) and LLM.int8(): `int8-token` O1, `int8-tensor` O2, `int8-static` O3.
 * @module
 */
import {
  type ActivationObserver,
  type ActivationRangeMethod,
  type ActivationRangeOpts,
  createActivationObserver,
  staticInput,
} from '@lmq/quant-core';
import { checkInputOptions, checkOneOf, type InputQuant, LmqError } from '@lmq/tensor';

export const INPUT_NAMES = ['int8-token', 'int8-tensor', 'int8-static', 'llm-int8'] as const;
export type InputName = (typeof INPUT_NAMES)[number];

/** An input with its options. `range`: with a fixed scale for the tensor, from the range that calibration sees. */
export type InputSpec =
  | { kind: 'int8'; per?: 'token' | 'tensor'; symmetric?: boolean }
  | { kind: 'int8'; per?: 'tensor'; symmetric?: boolean; range: ActivationRangeMethod | ActivationRangeOpts }
  | { kind: 'llm-int8'; threshold?: number };

/** What an input will be. */
export interface PlannedInput {
  /** Found at run time; for a static input, what it is without a range. */
  quant: InputQuant;
  /** For a static input: how its range is found. */
  range?: ActivationRangeOpts;
}

/**
 * An input with every default filled in: int8 per token and symmetric, or per tensor with a range; a threshold of 6.
 * @throws LmqError `argument/option`
 */
export function planInput(spec: InputName | InputSpec): PlannedInput {
  if (typeof spec === 'string') return planInput(BY_NAME[checkOneOf(spec, 'input', INPUT_NAMES, 'recipe')]);
  const known = spec.kind === 'llm-int8' ? ['kind', 'threshold'] : ['kind', 'per', 'symmetric', 'range'];
  const strange = Object.keys(spec).find((key) => !known.includes(key));
  if (strange !== undefined)
    throw new LmqError('argument/option', `unknown field input.${strange}`, { op: 'recipe', expected: known.join(', ') });
  if (spec.kind === 'llm-int8') return checked({ quant: { kind: 'llm-int8', threshold: spec.threshold ?? 6 } });
  const { kind, symmetric = true } = spec;
  if (!('range' in spec)) return checked({ quant: { kind, per: spec.per ?? 'token', symmetric } });
  if (spec.per !== undefined && spec.per !== 'tensor')
    throw new LmqError('argument/option', 'a range makes one scale for the tensor', {
      op: 'recipe',
      expected: "per: 'tensor'",
      found: spec.per,
    });
  const range = (typeof spec.range === 'string' ? { method: spec.range } : spec.range) as ActivationRangeOpts;
  createActivationObserver(range); // checks it
  return checked({ quant: { kind, per: 'tensor', symmetric }, range });
}

function checked(input: PlannedInput): PlannedInput {
  checkInputOptions(input.quant, 'recipe');
  return input;
}

const BY_NAME: Record<InputName, InputSpec> = {
  'int8-token': { kind: 'int8', per: 'token' },
  'int8-tensor': { kind: 'int8', per: 'tensor' },
  'int8-static': { kind: 'int8', range: 'minmax' },
  'llm-int8': { kind: 'llm-int8' },
};

/** Tells ways of finding a range apart. */
export const rangeKey = (range: ActivationRangeOpts): string => JSON.stringify(range);

/** Observers of one input of linears, by how they find a range: linears that share an input may ask for different ones. */
export type RangeObservers = Map<string, ActivationObserver>;

/** Adds what a linear asks for. */
export function addRange(observers: RangeObservers, { range }: PlannedInput): void {
  if (range && !observers.has(rangeKey(range))) observers.set(rangeKey(range), createActivationObserver(range));
}

/** The input of one linear once its range was observed, and what is to be said of it. An expert that nothing reached has no range. */
export function settleInput({ quant, range }: PlannedInput, observers: RangeObservers | undefined): { input: InputQuant; note?: string } {
  if (!range || quant.kind !== 'int8') return { input: quant };
  const observer = observers?.get(rangeKey(range));
  if (observer?.count) return { input: staticInput(observer, quant.symmetric) };
  return { input: quant, note: 'no calibration token reached this linear: the scale of its input is found at run time' };
}
