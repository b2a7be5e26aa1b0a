/**
 * The options that say what to do to a model: for `quantize` and `estimate`; and what to calibrate on.
 * @module
 */
import { EXPORTS, METHODS, parseRecipe, type Recipe, type Statistics } from '@lmq/pipeline';
import { type OpenModel, openStatisticsFile, readJson } from '@lmq/pipeline/node';
import { LmqError } from '@lmq/tensor';
import { type Command, Option } from 'commander';
import { calibrationWindows } from './calibration.js';
import {
  addBackend,
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
  export?: string;
}

export function addRecipeOptions(command: Command): Command {
  command
    .addOption(new Option('--method <name>', 'none: only change the format (default: gptq)').choices([...METHODS, 'none']))
    .option('--bits <n>', 'bits per weight, 1 to 8 (default: 4)', integer)
    .option('--recipe <file>', 'a JSON recipe instead of flags')
    .option('--override <name:option=value,…>', 'other options for linears whose name matches (* = anything); may be repeated', collect)
    .option('--include <name>', 'lm_head: quantize the output head too; may be repeated', collect)
    .option('--skip <name>', 'leave matching linears as they are; may be repeated', collect)
    .option('--export <format>', `${EXPORTS.join(', ')} (default: lmq)`);
  addStageOptions(command);
  addCalibrationOptions(command);
  addStatistics(command);
  return addBackend(command);
}

/** The recipe of a file, or of flags. */
export async function readRecipe(flags: RecipeFlags): Promise<Recipe> {
  if (!flags.recipe) return recipeOf(flags.method ?? 'gptq', flags.bits, flags, flags.export ?? 'lmq');
  if (flags.method || flags.bits) {
    throw new LmqError('argument/option', '--recipe and --method or --bits exclude each other', {
      op: 'quantize',
      hint: 'Write them in the recipe.',
    });
  }
  const recipe = parseRecipe(await readJson(flags.recipe));
  return flags.export ? { ...recipe, export: parseRecipe({ export: flags.export }).export } : recipe;
}

/** What the methods of a recipe calibrate on: windows of text, or saved statistics; nothing when none of them calibrates. */
export interface Calibration {
  calibration?: ArrayLike<number>[];
  statistics?: Statistics;
}

/** @throws LmqError for text or statistics that are missing or do not fit the model */
export async function calibrationOf(
  model: OpenModel,
  recipes: readonly Recipe[],
  { calibration, statistics }: { calibration?: string; statistics?: string },
  { atEnd }: Context,
): Promise<Calibration> {
  const calibrates = recipes.some((r) => [...r.stages, ...r.overrides].some((s) => s.method === 'gptq'));
  if (!calibrates) return {};
  if (statistics) {
    const opened = await openStatisticsFile(statistics, model);
    atEnd(opened.close);
    return { statistics: opened };
  }
  return { calibration: await calibrationWindows(model, recipes[0]!.calibration, calibration) };
}
