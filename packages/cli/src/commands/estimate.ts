/**
 * `lmq estimate`: what quantizing will cost, before any work.
 * @module
 */
import type { Recipe } from '@lmq/pipeline';
import { estimateModel, type OpenModel, openModel } from '@lmq/pipeline/node';
import type { Command } from 'commander';
import { makeBackend, threadsOf } from '../options.js';
import { addRecipeOptions, calibrationOf, type RecipeFlags, readRecipe } from '../recipe-options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds, table } from '../terminal.js';

export function addEstimate(lmq: Command, cli: Context): void {
  const command = lmq
    .command('estimate <model>')
    .description('size, time and memory of quantizing, before any work; takes the options of quantize');
  addRecipeOptions(command).action(async (name: string, flags: RecipeFlags) => {
    const recipe = await readRecipe(flags);
    const model = await openModel(name);
    try {
      await printEstimate(cli, model, recipe, flags);
    } finally {
      await model.close();
    }
  });
}

/** Estimates and prints; also what `quantize --dry-run` does. */
export async function printEstimate(cli: Context, model: OpenModel, recipe: Recipe, flags: RecipeFlags): Promise<void> {
  const { terminal } = cli;
  const source = await calibrationOf(model, [recipe], flags, cli);
  const oneThread = await makeBackend(flags.backend === 'js' ? flags : { ...flags, threads: 1 }, cli);
  const e = await estimateModel(model, recipe, oneThread, { ...source, threads: threadsOf(flags) });
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
      `output   ${recipe.budget ? 'at most ' : ''}${formatBytes(e.outputBytes)}${e.bitsPerWeight ? ` · ${e.bitsPerWeight.toFixed(3)} bits per weight` : ''}`,
      `memory   at most ${formatBytes(e.peakRss)}`,
      `disk     ${formatBytes(e.outputBytes + e.workBytes)} while at work`,
      `time     about ${formatSeconds(e.seconds)} of one processor`,
      '',
    ].join('\n'),
  );
}
