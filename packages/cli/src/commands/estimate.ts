/**
 * `lmq estimate`: what quantizing will cost, before any work.
 * @module
 */
import type { Recipe } from '@lmq/pipeline';
import { estimateModel, type OpenModel, openModel } from '@lmq/pipeline/node';
import type { Backend } from '@lmq/tensor';
import type { Command } from 'commander';
import { makeBackend } from '../options.js';
import { addRecipeOptions, type RecipeFlags, readRecipe, recipeCalibration } from '../recipe-options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds, type Terminal, table } from '../terminal.js';

export function addEstimate(lmq: Command, { terminal }: Context): void {
  const command = lmq
    .command('estimate <model>')
    .description('size, time and memory of quantizing, before any work; takes the options of quantize');
  addRecipeOptions(command).action(async (name: string, flags: RecipeFlags) => {
    const recipe = await readRecipe(flags);
    const model = await openModel(name);
    try {
      const calibration = await recipeCalibration(model, recipe, flags.calibration);
      await printEstimate(terminal, model, recipe, await makeBackend(flags.backend), calibration);
    } finally {
      await model.close();
    }
  });
}

/** Estimates and prints; also what `quantize --dry-run` does. */
export async function printEstimate(
  terminal: Terminal,
  model: OpenModel,
  recipe: Recipe,
  backend: Backend,
  calibration: readonly ArrayLike<number>[] = [],
): Promise<void> {
  const e = await estimateModel(model, recipe, backend, calibration);
  if (terminal.json) return terminal.result(e);
  terminal.out(
    table(
      ['step', 'time'],
      e.steps.map((s) => [s.step, formatSeconds(s.seconds)]),
    ),
  );
  terminal.out(
    [
      '',
      `output   ${formatBytes(e.outputBytes)}${e.bitsPerWeight ? ` · ${e.bitsPerWeight.toFixed(3)} bits per weight` : ''}`,
      `memory   at most ${formatBytes(e.peakRss)}`,
      `disk     ${formatBytes(e.outputBytes + e.workBytes)} while at work`,
      `time     about ${formatSeconds(e.seconds)} of one processor`,
      '',
    ].join('\n'),
  );
}
