/**
 * The options that say what to do to a model: for `quantize` and `estimate`.
 * @module
 */
import { METHODS, parseRecipe, type Recipe } from '@lmq/pipeline';
import { type OpenModel, readJson } from '@lmq/pipeline/node';
import { LmqError } from '@lmq/tensor';
import { type Command, Option } from 'commander';
import { calibrationWindows } from './calibration.js';
import { addBackend, addCalibrationOptions, addStageOptions, collect, integer, recipeOf, type StageFlags } from './options.js';

export interface RecipeFlags extends StageFlags {
  method?: string;
  bits?: number;
  recipe?: string;
  calibration?: string;
  export?: string;
  backend: string;
}

export function addRecipeOptions(command: Command): Command {
  command
    .addOption(new Option('--method <name>', 'none: only change the format (default: gptq)').choices([...METHODS, 'none']))
    .option('--bits <n>', 'bits per weight, 1 to 8 (default: 4)', integer)
    .option('--recipe <file>', 'a JSON recipe instead of flags')
    .option('--override <name:option=value,…>', 'other options for linears whose name matches (* = anything); may be repeated', collect)
    .option('--skip <name>', 'leave matching linears as they are; may be repeated', collect)
    .option('--export <format>', 'lmq, gguf:f32, gguf:f16, gguf:q8_0, gguf:q4_0 (default: lmq)');
  addStageOptions(command);
  addCalibrationOptions(command);
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

/** Calibration windows, when a method of the recipe needs them. */
export async function recipeCalibration(
  model: OpenModel,
  recipe: Recipe,
  file: string | undefined,
): Promise<ArrayLike<number>[] | undefined> {
  const calibrates = [...recipe.stages, ...recipe.overrides].some((s) => s.method === 'gptq');
  return calibrates ? calibrationWindows(model, recipe.calibration, file) : undefined;
}
