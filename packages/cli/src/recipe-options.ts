/**
 * The options that say what to do to a model: for `quantize` and `estimate`; and what to calibrate on.
 * @module
 */
import {
  defaultMethod,
  EXPORTS,
  type Importance,
  METHODS,
  needsCalibration,
  parseRecipe,
  type Recipe,
  type SavedFisher,
  type Statistics,
} from '@lmq/pipeline';
import { type OpenModel, openFisherFile, openImportanceFile, openStatisticsFile, readJson } from '@lmq/pipeline/node';
import { LmqError } from '@lmq/tensor';
import { type Command, Option } from 'commander';
import { calibrationWindows } from './calibration.js';
import {
  addBackend,
  addBudgetOptions,
  addCalibrationOptions,
  addStageOptions,
  addStatistics,
  type BackendFlags,
  collect,
  integer,
  recipeOf,
  type StageFlags,
} from './options.js';
import type { Context } from './run.js';

export interface RecipeFlags extends StageFlags, BackendFlags {
  method?: string;
  bits?: number;
  recipe?: string;
  calibration?: string;
  statistics?: string;
  fisher?: string;
  importance?: string;
  export?: string;
}

export function addRecipeOptions(command: Command): Command {
  const types = EXPORTS.flatMap((name) => (name.startsWith('gguf:') ? name.slice(5) : [])).join(', ');
  const method = 'none: only change the format; ggml: the quantizers of llama.cpp (default: ggml for gguf exports of blocks, else gptq)';
  command
    .addOption(new Option('--method <name>', method).choices([...METHODS, 'none']))
    .option('--bits <n>', 'bits per weight, 1 to 8 (default: 4)', integer)
    .option('--recipe <file>', 'a JSON recipe instead of flags')
    .option(
      '--override <name:option=value,…>',
      'other options for linears whose name matches (* = anything, or re: and a regular expression); may be repeated',
      collect,
    )
    .option(
      '--equalize <method[:option=value,…]>',
      'before that, scale channels: awq (options duo-scaling, clip, rescale, reference-compat) or smoothquant (alpha=0…1 or search); may be repeated',
      collect,
    )
    .option('--include <name>', 'lm_head: quantize the output head too; may be repeated', collect)
    .option('--skip <name>', 'leave matching linears as they are; may be repeated', collect)
    .option(
      '--export <format>',
      `${EXPORTS.filter((name) => !name.startsWith('gguf:')).join(', ')}, or gguf: and a type or mixture of llama.cpp: ${types} (default: lmq)`,
    )
    .option('--importance <file>', 'ggml: importance matrix of llama-imatrix, or what lmq calibrate saved');
  addStageOptions(command);
  addBudgetOptions(command);
  addCalibrationOptions(command);
  addStatistics(command);
  return addBackend(command);
}

/** The recipe of a file, or of flags. */
export async function readRecipe(flags: RecipeFlags): Promise<Recipe> {
  const target = flags.export ?? 'lmq';
  if (!flags.recipe) return recipeOf(flags.method ?? defaultMethod(target), flags.bits, flags, target);
  if (flags.method || flags.bits || flags.equalize || flags.budgetBits !== undefined) {
    throw new LmqError('argument/option', '--recipe and --method, --bits, --equalize or --budget-bits exclude each other', {
      op: 'quantize',
      hint: 'Write them in the recipe.',
    });
  }
  const json = (await readJson(flags.recipe)) as object;
  return parseRecipe(flags.export ? { ...json, export: flags.export } : json);
}

/** What the methods of a recipe calibrate on: windows of text, or what was saved; nothing when none of them calibrates. */
export interface Calibration {
  calibration?: ArrayLike<number>[];
  statistics?: Statistics;
  fisher?: SavedFisher;
  importance?: Importance;
}

/** @throws LmqError for text or statistics that are missing or do not fit the model */
export async function calibrationOf(
  model: OpenModel,
  recipes: readonly Recipe[],
  { calibration, statistics, fisher, importance }: Pick<RecipeFlags, 'calibration' | 'statistics' | 'fisher' | 'importance'>,
  { atEnd, signal, terminal }: Context,
): Promise<Calibration> {
  if (importance) return { importance: await openImportanceFile(importance, model, { signal, onProgress: terminal.progress }) };
  const saved: Calibration = {};
  if (fisher) {
    saved.fisher = await openFisherFile(fisher, model);
    atEnd(saved.fisher.close);
  }
  if (!recipes.some((r) => needsCalibration(r, fisher !== undefined))) return saved;
  if (statistics) {
    saved.statistics = await openStatisticsFile(statistics, model);
    atEnd(saved.statistics.close);
    return saved;
  }
  return { ...saved, calibration: await calibrationWindows(model, recipes[0]!.calibration, calibration) };
}
