/**
 * Grids that take neither schemes nor presets: those of the methods NF4 and FP4, HQQ and SqueezeLLM, and the tables that GPTQ may round to. Their
 * options, how the methods are run, and what they store.
 * @module
 */
import {
  checkHqq,
  checkSqueezeLlm,
  type HqqOpts,
  hqqLinear,
  type LinearStats,
  type QuantizedLinear,
  type SqueezeLlmOpts,
  squeezellmLinear,
  table4Linear,
} from '@lmq/quant-core';
import { checkInteger, contiguous, type Linear, LmqError } from '@lmq/tensor';
import type { LayerReport, Stage } from './api.js';

export type OwnGridMethod = 'nf4' | 'fp4' | 'hqq' | 'squeezellm';

/** Options that each takes besides `bits`, and those that have another default than other methods'. */
const OWN_GRIDS: Readonly<Record<OwnGridMethod, { options: readonly (keyof Stage)[]; defaults: Partial<Stage> }>> = {
  nf4: { options: ['groupSize', 'doubleQuant'], defaults: { groupSize: 64 } },
  fp4: { options: ['groupSize', 'doubleQuant'], defaults: { groupSize: 64 } },
  hqq: {
    options: ['groupSize', 'trits', 'scaleFormat', 'referenceCompat', 'lpNorm', 'beta', 'kappa', 'iters'],
    defaults: { groupSize: 64 },
  },
  squeezellm: { options: ['sparse', 'sensitivity', 'trueSequential', 'minTokens'], defaults: {} },
};
const OWN_OPTIONS: readonly (keyof Stage)[] = ['doubleQuant', 'lpNorm', 'beta', 'kappa', 'iters', 'sparse', 'sensitivity'];

export function isOwnGrid(method: unknown): method is OwnGridMethod {
  return typeof method === 'string' && Object.hasOwn(OWN_GRIDS, method);
}

/** The grid of its own that a stage's weights are on, if any: that of its method, or the table that GPTQ rounds to. */
export function ownGridOf({ method, table }: Pick<Stage, 'method' | 'table'>): OwnGridMethod | undefined {
  return isOwnGrid(method) ? method : table;
}

/** What a method's options are when nobody says, where that differs from other methods. */
export function ownGridDefaults(method: unknown): Partial<Stage> {
  return isOwnGrid(method) ? OWN_GRIDS[method].defaults : {};
}

/** Refuses options that a method has not. @throws LmqError `argument/option` */
export function checkOwnOptions(method: unknown, names: readonly string[], where: string): void {
  const taken: readonly string[] = isOwnGrid(method) ? ['method', 'match', 'skip', 'bits', ...OWN_GRIDS[method].options] : names;
  const foreign = names.find((n) => !taken.includes(n) || (!isOwnGrid(method) && OWN_OPTIONS.some((o) => o === n)));
  if (foreign === undefined) return;
  const owners = Object.entries(OWN_GRIDS).flatMap(([m, { options }]) => (options.some((o) => o === foreign) ? m : []));
  throw new LmqError('argument/option', `${where}.${foreign} is no option of ${String(method)}`, {
    op: 'recipe',
    ...(isOwnGrid(method)
      ? { expected: ['bits', ...OWN_GRIDS[method].options].join(', ') }
      : { hint: `It is one of ${owners.join(' and ')}.` }),
  });
}

type Guided = Pick<Partial<Stage>, 'method' | 'sensitivity'>;

/** Whether a stage with a grid of its own, or what an override changes of one, needs to know the inputs of linears. */
export function ownGridCalibrates({ method, sensitivity }: Guided): boolean {
  return (method === 'squeezellm' || method === undefined) && sensitivity === 'hessian-diagonal';
}

/** Whether a stage, or what an override changes of one, needs Fisher information. */
export function usesFisher({ method, sensitivity }: Guided): boolean {
  return method === 'squeezellm' ? sensitivity === undefined || sensitivity === 'fisher' : method === undefined && sensitivity === 'fisher';
}

/** @throws LmqError `argument/option` for values out of range, whatever the shape */
export function checkOwnGrid(stage: Stage, name: string): void {
  const { method, bits, groupSize } = stage;
  if (method === 'hqq') checkHqq(hqqOpts(stage));
  else if (method === 'squeezellm') checkSqueezeLlm(squeezeOpts(stage));
  else {
    if (bits !== 4)
      throw new LmqError('argument/option', `${method} has 4 bits, not ${bits}`, { op: 'recipe', tensor: name, hint: 'Leave bits out.' });
    checkInteger(groupSize, 'groupSize', 1, 2 ** 20, 'recipe');
  }
}

/** What a uniform grid has and a table has not. */
const UNIFORM = ['symmetric', 'trits', 'preset', 'clip', 'scaleFormat', 'input', 'fallback'] as const satisfies (keyof Stage)[];

/** @throws LmqError `argument/option` for a table with what it does not go with, whatever the shape */
export function checkTable(stage: Stage, defaults: Stage, name: string): void {
  const { method, table, bits, groupSize, actOrder, staticGroups } = stage;
  const refuse = (message: string, hint: string): never => {
    throw new LmqError('argument/option', message, { op: 'recipe', tensor: name, hint });
  };
  if (method !== 'gptq') refuse(`table is an option of gptq, not of ${method}`, `Without GPTQ, the method is ${table}.`);
  if (bits !== 4) refuse(`${table} has 4 bits, not ${bits}`, 'Leave bits out.');
  checkInteger(groupSize, 'groupSize', 1, 2 ** 20, 'recipe');
  const foreign = UNIFORM.find((option) => stage[option] !== defaults[option]);
  if (foreign) refuse(`${foreign} is no option of ${table}`, 'Leave one out.');
  if (actOrder && staticGroups !== true) refuse(`${table} needs groups in order`, 'Use staticGroups true, or groupAware.');
}

type Facts = Pick<LayerReport, 'doubleQuant' | 'sensitivity' | 'outliers'>;

/**
 * Quantizes a linear. One whose weights no calibration token tells apart, because none reached it, counts them alike, and `note` says so.
 * @throws LmqError what the method throws: `argument/option` without the Fisher information that a stage wants
 */
export async function quantizeOwnGrid(
  linear: Linear,
  stats: LinearStats,
  stage: Stage & { method: OwnGridMethod },
  signal?: AbortSignal,
): Promise<QuantizedLinear & { facts: Facts; note?: string }> {
  switch (stage.method) {
    case 'hqq':
      return { ...hqqLinear(linear, stats, hqqOpts(stage)), facts: {} };
    case 'squeezellm': {
      const unreached = stats.fisher && contiguous(stats.fisher).every((v) => v === 0);
      const blind = usesFisher(stage) ? unreached : ownGridCalibrates(stage) && !stats.hessian;
      const opts = { ...squeezeOpts(stage), ...(blind && { sensitivity: 'uniform' as const }), signal };
      const { linear: out, report } = await squeezellmLinear(linear, stats, opts);
      const facts = { sensitivity: report.sensitivity, outliers: report.outliers };
      return { linear: out, report, facts, ...(blind && { note: 'no calibration token reached this linear: weights count alike' }) };
    }
    default: {
      const { method: table, groupSize: blockSize, doubleQuant } = stage;
      return { ...table4Linear(linear, stats, { table, blockSize, doubleQuant }), facts: doubleQuant ? { doubleQuant } : {} };
    }
  }
}

function hqqOpts({ bits, trits, groupSize, scaleFormat, referenceCompat, lpNorm, beta, kappa, iters }: Stage): HqqOpts {
  return { bits, trits, groupSize, scaleFormat, referenceCompat, lpNorm, beta, kappa, iters };
}

function squeezeOpts({ bits, sparse, sensitivity = 'fisher' }: Stage): SqueezeLlmOpts {
  return { bits, sparse: typeof sparse === 'number' ? { share: sparse } : sparse, sensitivity };
}

/**
 * Stored bytes of a linear. Which outliers there are only the weights show: those of `share` are counted, and none taken off for whole rows, which
 * hold more than their part.
 */
export function ownGridBytes(out: number, width: number, stage: Stage): number {
  const { bits, groupSize, scaleFormat, doubleQuant } = stage;
  const grid = ownGridOf(stage);
  const codes = out * Math.ceil((width * bits) / 8);
  if (grid === 'hqq') {
    const groups = out * (groupSize < 0 ? 1 : width / groupSize);
    return codes + 2 * groups * (scaleFormat === 'fp32' ? 4 : 2);
  }
  if (grid !== 'squeezellm') {
    const scales = Math.ceil((out * width) / groupSize);
    return codes + 64 + (doubleQuant ? scales + 4 * Math.ceil(scales / 256) + 1024 + 4 : 4 * scales);
  }
  const { sparse = false } = squeezeOpts(stage);
  const table = 4 * 2 ** bits;
  if (sparse === false) return codes + out * table;
  const { share = 0.0045, format = 'fp16', fullRows = 0 } = sparse === true ? {} : sparse;
  const size = format === 'fp32' ? 4 : 2;
  const rest = out - fullRows;
  const outliers = Math.floor((share * rest * width * out) / out);
  const whole = fullRows ? fullRows * width * size + 4 * out : 0;
  return rest * (codes / out + table) + outliers * (4 + size) + (outliers ? 4 * (rest + 1) : 0) + whole;
}
