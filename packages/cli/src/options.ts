/**
 * Options that several subcommands share.
 * @module
 */
import { availableParallelism } from 'node:os';
import { jsBackend } from '@lmq/kernels-js';
import { type WasmBackendOpts, wasmBackend } from '@lmq/kernels-wasm';
import {
  blockStage,
  type Candidate,
  ERROR_MEASURES,
  type ExportName,
  INPUT_NAMES,
  parseRecipe,
  type Recipe,
  type Stage,
} from '@lmq/pipeline';
import { type Backend, LmqError } from '@lmq/tensor';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Context } from './run.js';

/** Parses an integer, or says which option it was. */
export function integer(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n)) throw new InvalidArgumentError('an integer is needed');
  return n;
}

export function number(text: string): number {
  const n = Number(text);
  if (text.trim() === '' || !Number.isFinite(n)) throw new InvalidArgumentError('a number is needed');
  return n;
}

/** `median,mad` as a choice; the recipe checks the names. */
function fallbackChoice(text: string): Stage['fallback'] {
  const [strategy = '', smooth, ...rest] = text.split(',');
  if (rest.length) throw new InvalidArgumentError('a strategy and at most one smoother are needed');
  return { strategy, ...(smooth !== undefined && { smooth }) } as Stage['fallback'];
}

/** A size in decimal units: `2GB`, `500M`. */
export function bytes(text: string): number {
  const [, size, unit = ''] = /^(\d{1,12}(?:\.\d{1,6})?) ?([kmgt]?)b?$/i.exec(text.trim()) ?? [];
  if (!(Number(size) > 0)) throw new InvalidArgumentError('a size is needed, such as 2GB');
  return Number(size) * 1000 ** ' kmgt'.indexOf(unit.toLowerCase() || ' ');
}

/** Values of the flags of `addBackend`. */
export interface BackendFlags {
  backend: 'wasm' | 'js';
  kernel?: WasmBackendOpts['kernel'];
  threads?: number;
}

/** More threads than this give little: what they share is the memory's bandwidth. */
const MAX_THREADS = 8;

export function addBackend(c: Command): Command {
  return c
    .addOption(new Option('--backend <name>', 'where to compute').choices(['wasm', 'js']).default('wasm'))
    .addOption(new Option('--kernel <name>', 'wasm: which instructions (default: auto)').choices(['auto', 'simd128', 'relaxed']))
    .option('--threads <n>', `wasm: threads; results are the same for any number (default: processors, at most ${MAX_THREADS})`, integer);
}

/** How quantized weights meet their inputs, for commands that run a model. */
export function addActivations(c: Command): Command {
  return c.addOption(
    new Option(
      '--activations <format>',
      'multiply quantized weights with inputs as they are, or rounded to integers, which is faster; linears quantized with --input keep to that',
    )
      .choices(['float32', 'int16', 'int8'])
      .default('float32'),
  );
}

/** Threads that the flags ask for. */
export function threadsOf({ backend, threads }: BackendFlags): number {
  return backend === 'js' ? 1 : (threads ?? Math.min(availableParallelism(), MAX_THREADS));
}

/**
 * The backend that the flags ask for, until the command is over.
 * @throws LmqError `argument/option` for flags of wasm with another backend; what `wasmBackend` throws
 */
export async function makeBackend({ backend, kernel, threads }: BackendFlags, { atEnd }: Context): Promise<Backend> {
  if (backend !== 'js') {
    const made = await wasmBackend({ kernel, threads: threadsOf({ backend, threads }) });
    atEnd(() => made.dispose());
    return made;
  }
  const given = kernel !== undefined ? '--kernel' : threads !== undefined ? '--threads' : undefined;
  if (given) throw new LmqError('argument/option', `${given} and --backend js exclude each other`, { hint: 'Leave one out.' });
  return jsBackend();
}

/** The flags of a stage, in kebab case of their names in a recipe. */
export function addStageOptions(c: Command): Command {
  return c
    .option('--group-size <n>', 'input columns that share a scale; -1: one scale per row (default: -1; hqq, nf4, fp4: 64)', integer)
    .option('--symmetric', 'zero point in the middle, not stored')
    .option('--trits', 'three values, at the ends of the range and zero, in 2 bits; hqq: three levels')
    .option(
      '--preset <name>',
      'scale convention: gptq, awq, smoothquant, compressed-tensors, torchao, auto-round, gguf, onnxruntime … (default: gptq)',
    )
    .addOption(
      new Option('--clip <method>', 'how the range of the scales is chosen (default: minmax)').choices([
        'minmax',
        'mse',
        'imatrix',
        'percentile',
        'kl',
      ]),
    )
    .addOption(new Option('--scale-format <format>', 'stored format of the scales (default: fp16)').choices(['fp16', 'bf16', 'fp32']))
    .addOption(
      new Option(
        '--input <name>',
        'quantize the inputs of the linears at run time, and multiply in integers: per token, per tensor, with scales from calibration, or LLM.int8() (default: not at all)',
      ).choices(INPUT_NAMES),
    )
    .option('--act-order', 'gptq: columns by falling diagonal of the Hessian')
    .option('--group-aware', 'gptq: the same within and among groups, which stay in order')
    .addOption(new Option('--static-groups [ordered]', 'gptq: find all scales first; ordered: of groups in act-order').choices(['ordered']))
    .option('--true-sequential', 'gptq, squeezellm by hessian-diagonal: calibrate the sets of linears of a block one after another')
    .option('--damp-percent <x>', 'gptq: damping (default: 0.01)', number)
    .option('--damp-increment <x>', 'gptq: more damping while the Hessian cannot be factored (default: 0.01)', number)
    .option('--block-size <n>', 'gptq: columns per block (default: 128)', integer)
    .option('--gptaq [share]', 'gptq: aim at the outputs of the float model; how much of the difference to make up for (0.25)', number)
    .option('--foem [beta]', 'gptq: take back a part of what the sweep has added to each weight (0.2); not with --gptaq', number)
    .addOption(
      new Option('--table <name>', 'gptq: round to this table of bitsandbytes, in groups of 64, instead of a uniform grid').choices([
        'nf4',
        'fp4',
      ]),
    )
    .option(
      '--min-tokens <n>',
      'gptq, squeezellm by hessian-diagonal: experts that fewer calibration tokens reach take all (default: 0.5 % of an even share; 0: never)',
      integer,
    )
    .option(
      '--fallback <strategy[,smoother]>',
      'gptq: linears that fewer than --min-tokens reach, without calibration: rtn, midpoint, mean, median, stdclip; smoothed by percentile, percentile_asym, mad, mse, outlier, softnorm, log, rowcol',
      fallbackChoice,
    )
    .option('--double-quant', 'nf4, fp4: quantize the scales, too')
    .option('--lp-norm <p>', 'hqq: exponent of the error (default: 0.7)', number)
    .option('--beta <x>', 'hqq: weight of the error beside outliers (default: 10)', number)
    .option('--kappa <x>', 'hqq: its growth in each iteration (default: 1.01)', number)
    .option('--iters <n>', 'hqq: iterations at most (default: 20)', integer)
    .option('--sparse [share]', 'squeezellm: keep outliers apart; which part of the weights (0.0045)', number)
    .addOption(
      new Option(
        '--sensitivity <kind>',
        'squeezellm: what weights count by: squared gradients of the loss, squares of the inputs, or all alike (default: fisher)',
      ).choices(['fisher', 'hessian-diagonal', 'uniform']),
    )
    .option('--reference-compat', 'reproduce the published code where it has a known flaw');
}

/** Mixed precision. */
export function addBudgetOptions(c: Command): Command {
  return c
    .option(
      '--budget-bits <x>',
      'mixed precision: stored bits per weight on average, at most, scales counted; linears get what hurts least',
      number,
    )
    .option(
      '--budget-candidates <list>',
      'what each linear may get: bits, or 16 to keep it as it is (default: 2,3,4,5,6,8,16, as far as the export holds them; nf4, fp4: 4 or kept)',
      candidates,
    )
    .addOption(
      new Option(
        '--budget-measure <name>',
        'what the error of a candidate is: of the weight, of its outputs, or KL of the whole model (default: output)',
      ).choices(ERROR_MEASURES),
    )
    .addOption(
      new Option('--budget-solver <name>', 'the best choice, or steepest steps first (default: knapsack)').choices(['knapsack', 'greedy']),
    );
}

/** `3,4,16` as candidates. */
function candidates(text: string): Candidate[] {
  return listOf(integer)(text).map((bits) => (bits === 16 ? { skip: true } : { bits }));
}

/** How to calibrate on text. */
export function addCalibrationOptions(c: Command): Command {
  return c
    .option(
      '--calibration <file>',
      'text to calibrate on: .txt, .jsonl, or .json with arrays of token ids (built-in models bring their own)',
    )
    .option('--samples <n>', 'calibration windows (default: 128)', integer)
    .option('--seq-len <n>', 'tokens per calibration window (default: 2048, or the context if smaller)', integer)
    .option('--seed <n>', 'seed of everything random (default: 0)', integer);
}

/** For commands that can do without text. */
export function addStatistics(c: Command): Command {
  return c
    .addOption(
      new Option('--statistics <file>', 'what lmq calibrate saved of this model, instead of calibrating').conflicts([
        'calibration',
        'samples',
        'seqLen',
        'seed',
      ]),
    )
    .option('--fisher <file>', 'squeezellm: what lmq calibrate --export fisher saved of this model, instead of collecting it');
}

/** Values of the flags above, as commander hands them over. */
export interface StageFlags extends Partial<Omit<Stage, 'method' | 'bits'>> {
  equalize?: string[];
  include?: string[];
  override?: string[];
  skip?: string[];
  budgetBits?: number;
  budgetCandidates?: Candidate[];
  budgetMeasure?: string;
  budgetSolver?: string;
  samples?: number;
  seqLen?: number;
  seed?: number;
}

const STAGE_FLAGS = [
  'groupSize',
  'symmetric',
  'trits',
  'preset',
  'clip',
  'scaleFormat',
  'input',
  'actOrder',
  'groupAware',
  'staticGroups',
  'trueSequential',
  'dampPercent',
  'dampIncrement',
  'blockSize',
  'gptaq',
  'foem',
  'table',
  'minTokens',
  'fallback',
  'doubleQuant',
  'lpNorm',
  'beta',
  'kappa',
  'iters',
  'sparse',
  'sensitivity',
  'referenceCompat',
] as const;

/** A recipe of flags. Exports to GGUF blocks bring their own group size and convention, unless flags say otherwise. */
export function recipeOf(method: string, bits: number | undefined, flags: StageFlags, target: string): Recipe {
  const stage: Record<string, unknown> = { method };
  const need = method === 'rtn' || method === 'gptq' ? blockStage(target as ExportName) : undefined;
  if (need) Object.assign(stage, need, { preset: 'gguf' });
  if (bits !== undefined) stage.bits = bits;
  for (const name of STAGE_FLAGS) if (flags[name] !== undefined) stage[name] = flags[name];
  const calibration: Record<string, unknown> = {};
  for (const name of ['samples', 'seqLen', 'seed'] as const) if (flags[name] !== undefined) calibration[name] = flags[name];
  const overrides = [...(flags.override ?? []).map(parseOverrideFlag), ...(flags.skip ?? []).map((match) => ({ match, skip: true }))];
  const equalize = (flags.equalize ?? []).map(parseEqualizeFlag);
  return parseRecipe({
    equalize,
    stages: method === 'none' ? [] : [stage],
    include: flags.include,
    overrides,
    ...budgetOf(flags),
    calibration,
    export: target,
  });
}

/** The budget of flags, when there is one. */
function budgetOf({ budgetBits: bits, budgetCandidates, budgetMeasure, budgetSolver }: StageFlags): { budget?: object } {
  const rest = { candidates: budgetCandidates, measure: budgetMeasure, solver: budgetSolver };
  const said = Object.entries(rest).find(([, value]) => value !== undefined);
  if (bits === undefined && said) {
    throw new LmqError('argument/option', `--budget-${said[0]} is of no use without --budget-bits`, {
      hint: 'Say how many bits there are.',
    });
  }
  return bits === undefined ? {} : { budget: { bits, ...rest } };
}

/** `*down_proj:bits=8,groupSize=64` as an override. */
function parseOverrideFlag(text: string): Record<string, unknown> {
  const colon = text.lastIndexOf(':');
  if (colon <= 0) {
    throw new LmqError('argument/option', 'the override has no options', {
      op: '--override',
      expected: 'name:option=value,…',
      found: text,
    });
  }
  return { match: text.slice(0, colon), ...optionsOf(text.slice(colon + 1)) };
}

/** `awq` or `awq:clip=false,duo-scaling=true` as a stage. */
function parseEqualizeFlag(text: string): Record<string, unknown> {
  const [method = '', ...options] = text.split(':');
  return { ...(options.length && optionsOf(options.join(':'))), method };
}

/** `option=value,…`; the recipe checks names and values. */
function optionsOf(text: string): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const pair of text.split(',')) {
    const [key = '', value = ''] = pair.split('=');
    const name = key.replace(/-([a-z])/g, (_, c: string) => c.toUpperCase());
    out[name] =
      value === 'true' ? true : value === 'false' ? false : value !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
  }
  return out;
}

/** Collects a repeatable option. */
export function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value];
}

/** `4,3,2` as numbers, `rtn,gptq` as names. */
export function listOf<T>(parse: (s: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map((s) => parse(s.trim()));
}
