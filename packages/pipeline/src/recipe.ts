/**
 * Recipes: checking what people write, filling in defaults, and finding the options of one linear.
 * @module
 */
import { GGUF_FILE_TYPES, isBlockFileType } from '@lmq/checkpoints';
import { ENCODABLE_BLOCK_TYPES } from '@lmq/formats';
import {
  ALLOCATION_SOLVERS,
  checkFallback,
  type FallbackChoice,
  type FallbackStrategy,
  type PresetName,
  resolveScheme,
} from '@lmq/quant-core';
import { checkInteger, checkOneOf, LmqError } from '@lmq/tensor';
import { EQUALIZE_METHODS, parseEqualizeStage } from './_equalize/stage.js';
import { FOLDER_NAMES } from './_folders/table.js';
import { checkOwnGrid, checkOwnOptions, checkTable, isOwnGrid, ownGridDefaults } from './_own-grids.js';
import type { Budget, CalibrationSpec, Candidate, ErrorMeasure, ExportName, IncludeName, Override, Recipe, Stage } from './api.js';
import { type InputName, type InputSpec, planInput } from './input-quant.js';

export const METHODS = ['rtn', 'gptq', 'nf4', 'fp4', 'hqq', 'squeezellm', 'ggml'] as const;
export const INCLUDES = ['lm_head'] as const;
export const ERROR_MEASURES: readonly ErrorMeasure[] = ['weight', 'output', 'kl'];
export const EXPORTS: readonly ExportName[] = [
  'lmq',
  'onnx',
  ...FOLDER_NAMES,
  ...[...GGUF_FILE_TYPES.keys()].map((name) => `gguf:${name}` as const),
];
/** Types that an override may name: those that can be written. */
const MATRIX_TYPES = ['F32', 'F16', 'BF16', ...ENCODABLE_BLOCK_TYPES];

/** The method that makes what an export holds, when nobody names one. */
export function defaultMethod(target: string): Stage['method'] {
  const fileType = [...GGUF_FILE_TYPES.keys()].find((name) => target === `gguf:${name}`);
  return fileType && isBlockFileType(fileType) ? 'ggml' : 'gptq';
}

/** Defaults of a stage, by the papers' reference code. */
export const STAGE_DEFAULTS: Stage = {
  method: 'gptq',
  bits: 4,
  groupSize: -1,
  symmetric: false,
  trits: false,
  preset: 'gptq',
  clip: 'minmax',
  scaleFormat: 'fp16',
  input: undefined,
  referenceCompat: false,
  actOrder: false,
  groupAware: false,
  staticGroups: false,
  trueSequential: false,
  dampPercent: 0.01,
  dampIncrement: 0.01,
  blockSize: 128,
  gptaq: false,
  foem: false,
  table: undefined,
  minTokens: undefined,
  fallback: undefined,
  doubleQuant: false,
  lpNorm: undefined,
  beta: undefined,
  kappa: undefined,
  iters: undefined,
  sparse: false,
  sensitivity: undefined,
};

const CALIBRATION_DEFAULTS: CalibrationSpec = { samples: 128, seed: 0 };

/**
 * Checks a recipe as read from a file and fills in defaults.
 * @throws LmqError `argument/option` naming the field
 */
export function parseRecipe(input: unknown): Recipe {
  const top = record(input, 'recipe');
  known(top, ['equalize', 'stages', 'include', 'overrides', 'budget', 'calibration', 'export'], 'recipe');
  const target = checkExportName(String(top.export ?? 'lmq'));
  const unsaid = defaultMethod(target) === 'ggml' ? [{ method: 'ggml' }] : [];
  const all = list(top.stages ?? unsaid, 'stages').map((s, i) => record(s, `stages[${i}]`));
  const first = all.findIndex((s) => !EQUALIZE_METHODS.some((name) => name === s.method));
  const count = first < 0 ? all.length : first;
  const equalize = [...list(top.equalize ?? [], 'equalize').map((s, i) => record(s, `equalize[${i}]`)), ...all.slice(0, count)].map(
    (s, i) => parseEqualizeStage(s, `stages[${i}]`),
  );
  if (all.length - count > 1) {
    throw new LmqError('argument/option', 'only one stage can quantize, and it comes last', {
      op: 'recipe',
      expected: 'at most 1 stage after awq and smoothquant',
      found: all.length - count,
    });
  }
  const stages = all.slice(count).map((s, i) => parseStage(s, `stages[${count + i}]`));
  if (equalize.length && !(stages[0] && stages[0].method !== 'ggml')) {
    throw new LmqError('argument/option', `${equalize[0]!.method} prepares weights for a stage that quantizes`, {
      op: 'recipe',
      expected: 'a stage such as rtn or gptq after it',
      found: stages[0]?.method ?? 'none',
    });
  }
  const include = list(top.include ?? [], 'include').map((n) => checkOneOf<IncludeName>(String(n), 'include', INCLUDES, 'recipe'));
  const overrides = list(top.overrides ?? [], 'overrides').map((o, i) => parseOverride(o, `overrides[${i}]`));
  const calibration = record(top.calibration ?? {}, 'calibration');
  known(calibration, ['samples', 'seqLen', 'seed'], 'calibration');
  const spec: CalibrationSpec = { ...CALIBRATION_DEFAULTS, ...calibration };
  checkInteger(spec.samples, 'calibration.samples', 1, 1e6, 'recipe');
  if (spec.seqLen !== undefined) checkInteger(spec.seqLen, 'calibration.seqLen', 2, 1e6, 'recipe');
  checkInteger(spec.seed, 'calibration.seed', 0, 2 ** 32 - 1, 'recipe');
  for (const [i, { method, ...options }] of overrides.entries()) checkGgmlOverride(stages[0], method, options, `overrides[${i}]`);
  return {
    ...(equalize.length && { equalize }),
    stages,
    ...(include.length && { include: [...new Set(include)] }),
    overrides,
    ...(top.budget !== undefined && { budget: parseBudget(top.budget, stages[0]) }),
    calibration: spec,
    export: target,
  };
}

/** The name of an export. @throws LmqError `argument/option` listing them */
export function checkExportName(name: string): ExportName {
  return checkOneOf<ExportName>(name, 'export', EXPORTS, 'recipe');
}

/** The options of one linear: the stage with every matching override applied, or null where it is skipped. */
export function stageFor(recipe: Recipe, name: string): (Stage & Pick<Override, 'type'>) | null {
  const stage = recipe.stages[0];
  if (!stage) return null;
  let out: Stage & Pick<Override, 'type'> = stage;
  let skip = false;
  for (const { match, skip: leave, ...options } of recipe.overrides) {
    if (!matches(match, name)) continue;
    if (leave !== undefined) skip = leave;
    out = { ...out, ...options };
  }
  return skip ? null : out;
}

/**
 * Refuses options of one linear that do not go together, which only the stage with its overrides shows.
 * @throws LmqError `argument/option`
 */
export function checkStage(stage: Stage, name: string): void {
  const { method, bits, trits, preset, groupSize, input, fallback, actOrder, groupAware, staticGroups, gptaq, foem } = stage;
  if (isOwnGrid(method)) {
    checkOwnGrid(stage, name);
    return;
  }
  if (stage.table !== undefined) checkTable(stage, STAGE_DEFAULTS, name);
  const clash = (message: string, hint: string) => new LmqError('argument/option', message, { op: 'recipe', tensor: name, hint });
  if (trits && bits !== 2) throw clash(`trits are stored in 2 bits, not ${bits}`, 'Leave bits out.');
  if (trits && preset !== 'gptq') throw clash(`trits have no scale convention, and preset ${preset} is one`, 'Leave preset out.');
  resolveScheme({ ...stage, preset: preset as PresetName }, 1, Math.max(stage.groupSize, 1), 'recipe'); // whatever the shape
  if (input !== undefined) {
    if (trits) throw clash('trits have no integers for a quantized input', 'Leave one out.');
    if (groupSize % 32 !== 0 && groupSize > 0)
      throw clash(`groups of ${groupSize} columns do not suit a quantized input`, 'Use a multiple of 32, or -1.');
    if (method === 'gptq' && actOrder && staticGroups !== true && groupSize > 0)
      throw clash('a quantized input needs groups in order', 'Use staticGroups true, or groupAware.');
  }
  if (method !== 'gptq') return;
  if (trits && fallback !== undefined) throw clash('trits and fallback exclude each other', 'The strategies make uniform grids.');
  if (gptaq !== false && foem !== false) throw clash('gptaq and foem exclude each other', 'Leave one out.');
  if (actOrder && groupAware) {
    throw clash('actOrder and groupAware exclude each other', 'groupAware keeps groups in order; actOrder orders freely.');
  }
  if (staticGroups === 'ordered' && !actOrder)
    throw clash("staticGroups 'ordered' needs actOrder", 'Add actOrder, or say staticGroups true.');
}

/**
 * Whether a name fits a pattern: one in which `*` stands for any run of characters (linear in the name for each `*`), or `re:` and a regular
 * expression that must fit from the name's beginning on, not to its end, as in compressed-tensors. Expressions are the user's own: no model file
 * brings a pattern.
 * @throws LmqError `argument/option` for what is no regular expression
 */
export function matches(pattern: string, name: string): boolean {
  if (pattern.startsWith(REGEX)) return regexOf(pattern).test(name);
  if (!pattern.includes('*')) return pattern === name; // as in the overrides of a budget: as many as linears
  const pieces = pattern.split('*');
  const first = pieces[0]!;
  const last = pieces[pieces.length - 1]!;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = name.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return at <= name.length - last.length;
}

const REGEX = 're:';

function regexOf(pattern: string): RegExp {
  const source = pattern.slice(REGEX.length);
  try {
    new RegExp(source); // alone: a stray bracket must not close the group around it
    return new RegExp(`^(?:${source})`);
  } catch (cause) {
    throw new LmqError('argument/option', 'a pattern is not a regular expression', {
      op: 'recipe',
      found: source,
      hint: cause instanceof Error ? cause.message : undefined,
      cause,
    });
  }
}

type Fields = Record<string, unknown>;

function parseStage(input: unknown, where: string): Stage {
  const fields = record(input, where);
  known(fields, Object.keys(STAGE_DEFAULTS), where);
  if (fields.method === undefined)
    throw new LmqError('argument/option', `${where}.method is missing`, { op: 'recipe', expected: METHODS.join(', ') });
  checkOptions(fields, where);
  const said = isFilled(fields) ? chosen(fields) : Object.keys(fields);
  const option = said.find((name) => name !== 'method');
  if (fields.method === 'ggml' && option !== undefined) {
    throw new LmqError('argument/option', `${where}.${option}: ggml takes no options, its export says everything`, {
      op: 'recipe',
      found: fields[option],
      hint: 'Leave it out, or name another method: gptq and rtn fit gguf:q4_0 and gguf:q8_0.',
    });
  }
  checkOwnOptions(fields.method, chosen(fields), where);
  checkHessianOptions(fields, where);
  return {
    ...STAGE_DEFAULTS,
    ...ownGridDefaults(fields.table ?? fields.method),
    ...(fields.trits === true && { bits: 2 }),
    ...fields,
  } as Stage;
}

/** Refuses, in a stage without a Hessian, options that say how to collect it. */
function checkHessianOptions(fields: Fields, where: string): void {
  if (fields.method !== 'squeezellm' || fields.sensitivity === 'hessian-diagonal') return;
  const option = chosen(fields).find((name) => name === 'trueSequential' || name === 'minTokens');
  if (option === undefined) return;
  throw new LmqError('argument/option', `${where}.${option} is an option of sensitivity hessian-diagonal`, {
    op: 'recipe',
    found: `sensitivity ${String(fields.sensitivity ?? 'fisher')}`,
    hint: 'Leave it out: gradients are those of the original model, and each token counts where it went.',
  });
}

/** A file is made by llama.cpp's quantizers or by others, not by both, and the former have no options but a type. */
function checkGgmlOverride(stage: Stage | undefined, method: string | undefined, options: Partial<Override>, where: string): void {
  const ggml = stage?.method === 'ggml';
  if (method !== undefined && (method === 'ggml') !== ggml) {
    throw new LmqError('argument/option', `${where}.method: ggml and other methods exclude each other`, { op: 'recipe', found: method });
  }
  if (ggml) known(options as Fields, ['match', 'skip', 'type'], `${where} (ggml)`);
  else if (options.type !== undefined) {
    throw new LmqError('argument/option', `${where}.type is an option of the method ggml`, {
      op: 'recipe',
      found: stage?.method ?? 'no method',
    });
  }
}

/** Fields that say something else than the defaults, with which a recipe that was parsed before is filled. */
function chosen(fields: Fields): string[] {
  return Object.keys(fields).filter((name) => fields[name] !== STAGE_DEFAULTS[name as keyof Stage]);
}

/** Whether every default is there: a stage that was parsed before, in which a 4 among the bits is nobody's choice. */
function isFilled(fields: Fields): boolean {
  return Object.entries(STAGE_DEFAULTS).every(([name, value]) => value === undefined || fields[name] !== undefined);
}

function parseOverride(input: unknown, where: string): Override {
  const fields = record(input, where);
  known(fields, ['match', 'skip', 'type', ...Object.keys(STAGE_DEFAULTS)], where);
  if (typeof fields.match !== 'string') {
    throw new LmqError('argument/option', `${where}.match is missing`, {
      op: 'recipe',
      expected: 'the name of a linear, * for any characters, or re: and a regular expression',
    });
  }
  if (fields.match.startsWith(REGEX)) regexOf(fields.match);
  if (fields.skip !== undefined) boolean(fields.skip, `${where}.skip`);
  const whole = ['trueSequential', 'minTokens'].find((name) => fields[name] !== undefined);
  if (whole) {
    throw new LmqError('argument/option', `${where}.${whole} is an option of a whole stage`, {
      op: 'recipe',
      hint: 'Move it to the stage.',
    });
  }
  checkOptions(fields, where);
  if (fields.type !== undefined) {
    const type = checkOneOf(String(fields.type).toUpperCase(), `${where}.type`, MATRIX_TYPES, 'recipe');
    return { ...fields, type } as unknown as Override;
  }
  if (fields.method !== undefined) checkOwnOptions(fields.method, chosen(fields), where);
  return { ...ownGridDefaults(fields.table ?? fields.method), ...(fields.trits === true && { bits: 2 }), ...fields } as unknown as Override;
}

function parseBudget(input: unknown, stage: Stage | undefined): Budget {
  const fields = record(input, 'budget');
  known(fields, ['bits', 'candidates', 'measure', 'solver', 'agree'], 'budget');
  const { bits, candidates, measure = 'output', solver = 'knapsack', agree } = fields;
  if (!stage || stage.method === 'ggml') {
    throw new LmqError('argument/option', 'a budget needs a stage that quantizes', {
      op: 'recipe',
      expected: 'a method such as gptq or rtn',
      found: stage?.method ?? 'none',
      hint: stage && 'What llama.cpp gives each tensor is in its mixtures, such as gguf:q4_k_m, and in overrides with type.',
    });
  }
  if (!(typeof bits === 'number' && bits > 0 && bits < MOST_BUDGET_BITS)) {
    throw new LmqError('argument/option', 'budget.bits is out of range', {
      op: 'recipe',
      expected: `0 < bits < ${MOST_BUDGET_BITS}`,
      found: bits,
    });
  }
  return {
    bits,
    ...(candidates !== undefined && { candidates: list(candidates, 'budget.candidates').map(parseCandidate) }),
    measure: checkOneOf(String(measure), 'budget.measure', ERROR_MEASURES, 'recipe'),
    solver: checkOneOf(String(solver), 'budget.solver', ALLOCATION_SOLVERS, 'recipe'),
    ...(agree !== undefined && { agree: checkOneOf(String(agree), 'budget.agree', ['fused', 'none'] as const, 'recipe') }),
  };
}

/** Weights are stored in 16 bits or more to begin with. */
const MOST_BUDGET_BITS = 16;

function parseCandidate(input: unknown, i: number): Candidate {
  const where = `budget.candidates[${i}]`;
  const fields = record(input, where);
  known(fields, ['skip', ...Object.keys(STAGE_DEFAULTS)], where);
  if (fields.method === 'ggml')
    throw new LmqError('argument/option', `${where}.method: ggml and other methods exclude each other`, { op: 'recipe' });
  const { match: _, ...candidate } = parseOverride({ ...fields, match: '*' }, where);
  return candidate;
}

/** Checks the fields that are there; presets are checked by the method, which knows them. */
function checkOptions(f: Fields, where: string): void {
  if (f.method !== undefined) checkOneOf(String(f.method), `${where}.method`, METHODS, 'recipe');
  if (f.bits !== undefined) checkInteger(f.bits as number, `${where}.bits`, 1, 8, 'recipe');
  if (f.groupSize !== undefined && f.groupSize !== -1) checkInteger(f.groupSize as number, `${where}.groupSize`, 1, 2 ** 20, 'recipe');
  if (f.minTokens !== undefined) checkInteger(f.minTokens as number, `${where}.minTokens`, 0, Number.MAX_SAFE_INTEGER, 'recipe');
  if (f.blockSize !== undefined) checkInteger(f.blockSize as number, `${where}.blockSize`, 1, 2 ** 20, 'recipe');
  if (f.scaleFormat !== undefined) checkOneOf(String(f.scaleFormat), `${where}.scaleFormat`, ['fp32', 'fp16', 'bf16'], 'recipe');
  for (const name of ['symmetric', 'trits', 'referenceCompat', 'actOrder', 'groupAware', 'trueSequential', 'doubleQuant']) {
    if (f[name] !== undefined) boolean(f[name], `${where}.${name}`);
  }
  if (f.clip !== undefined) {
    const method = typeof f.clip === 'string' ? f.clip : record(f.clip, `${where}.clip`).method;
    checkOneOf(String(method), `${where}.clip`, ['minmax', 'mse', 'imatrix', 'percentile', 'kl'], 'recipe'); // the method checks the rest
  }
  if (f.input !== undefined)
    planInput((typeof f.input === 'string' ? f.input : record(f.input, `${where}.input`)) as InputName | InputSpec);
  if (f.staticGroups !== undefined && f.staticGroups !== 'ordered') boolean(f.staticGroups, `${where}.staticGroups`);
  if (typeof f.fallback === 'object') known(record(f.fallback, `${where}.fallback`), ['strategy', 'smooth'], `${where}.fallback`);
  if (f.fallback !== undefined) checkFallback(f.fallback as FallbackStrategy | FallbackChoice, 'recipe');
  for (const name of ['dampPercent', 'dampIncrement']) {
    const damp = f[name];
    if (damp === undefined || (typeof damp === 'number' && damp >= 0 && damp < 1)) continue; // the method checks how small
    throw new LmqError('argument/option', `${where}.${name} is out of range`, { op: 'recipe', expected: `0 <= ${name} < 1`, found: damp });
  }
  for (const name of ['lpNorm', 'beta', 'kappa', 'iters']) {
    // the method checks how large
    if (f[name] !== undefined && typeof f[name] !== 'number')
      throw new LmqError('argument/option', `${where}.${name} is not a number`, { op: 'recipe', found: f[name] });
  }
  if (typeof f.sparse === 'object')
    known(record(f.sparse, `${where}.sparse`), ['share', 'range', 'sensitive', 'fullRows', 'format'], `${where}.sparse`);
  else if (f.sparse !== undefined && typeof f.sparse !== 'number') boolean(f.sparse, `${where}.sparse`);
  if (f.sensitivity !== undefined)
    checkOneOf(String(f.sensitivity), `${where}.sensitivity`, ['fisher', 'hessian-diagonal', 'uniform'], 'recipe');
  if (f.table !== undefined) checkOneOf(String(f.table), `${where}.table`, ['nf4', 'fp4'], 'recipe');
  for (const name of ['gptaq', 'foem']) {
    const share = f[name];
    if (share === undefined || typeof share === 'boolean' || (typeof share === 'number' && share >= 0 && share <= 1)) continue;
    throw new LmqError('argument/option', `${where}.${name} is out of range`, {
      op: 'recipe',
      expected: `true, false, or a share 0 <= ${name} <= 1`,
      found: share,
    });
  }
}

function record(value: unknown, where: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new LmqError('argument/option', `${where} is not an object`, { op: 'recipe', found: value });
}
function list(value: unknown, where: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new LmqError('argument/option', `${where} is not a list`, { op: 'recipe', found: value });
}
function boolean(value: unknown, where: string): void {
  if (typeof value !== 'boolean') throw new LmqError('argument/option', `${where} is not true or false`, { op: 'recipe', found: value });
}
function known(fields: Fields, names: readonly string[], where: string): void {
  for (const key of Object.keys(fields)) {
    if (!names.includes(key))
      throw new LmqError('argument/option', `unknown field ${where}.${key}`, { op: 'recipe', expected: names.join(', ') });
  }
}
