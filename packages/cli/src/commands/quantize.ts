/**
 * `lmq quantize`: one model in, one compressed model out.
 * @module
 */
import { METHODS, parseRecipe, type Recipe } from '@lmq/pipeline';
import { openModel, quantizeModel, readJson } from '@lmq/pipeline/node';
import { LmqError } from '@lmq/tensor';
import { type Command, Option } from 'commander';
import { calibrationWindows } from '../calibration.js';
import {
  addBackend,
  addCalibrationOptions,
  addStageOptions,
  collect,
  integer,
  makeBackend,
  recipeOf,
  type StageFlags,
} from '../options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds, table } from '../terminal.js';

interface Flags extends StageFlags {
  output: string;
  method?: string;
  bits?: number;
  recipe?: string;
  calibration?: string;
  export?: string;
  force?: boolean;
  restart?: boolean;
  backend: string;
}

export function addQuantize(lmq: Command, { terminal, signal }: Context): void {
  const command = lmq
    .command('quantize <model>')
    .description('quantize a model into an lmq folder or a GGUF file')
    .requiredOption('-o, --output <path>', 'folder (lmq) or file (GGUF) to write')
    .addOption(new Option('--method <name>', 'none: only change the format (default: gptq)').choices([...METHODS, 'none']))
    .option('--bits <n>', 'bits per weight, 1 to 8 (default: 4)', integer)
    .option('--recipe <file>', 'a JSON recipe instead of flags')
    .option('--override <name:option=value,…>', 'other options for linears whose name matches (* = anything); may be repeated', collect)
    .option('--skip <name>', 'leave matching linears as they are; may be repeated', collect)
    .option('--export <format>', 'lmq, gguf:f32, gguf:f16, gguf:q8_0, gguf:q4_0 (default: lmq)')
    .option('--force', 'replace an existing output')
    .option('--restart', 'throw away what an interrupted run has left, instead of going on from it');
  addStageOptions(command);
  addCalibrationOptions(command);
  addBackend(command).action(async (name: string, flags: Flags) => {
    const recipe = await readRecipe(flags);
    const model = await openModel(name);
    try {
      for (const w of model.warnings) terminal.say(`warning: ${w}`);
      const backend = await makeBackend(flags.backend);
      const calibrates = [...recipe.stages, ...recipe.overrides].some((s) => s.method === 'gptq');
      const calibration = calibrates ? await calibrationWindows(model, recipe.calibration, flags.calibration) : undefined;
      const report = await quantizeModel(model, {
        backend,
        recipe,
        output: flags.output,
        force: flags.force,
        restart: flags.restart,
        calibration,
        signal,
        onProgress: terminal.progress,
      });
      if (report.resumedBlocks) terminal.say(`went on after ${report.resumedBlocks} blocks that an interrupted run had finished`);
      const result = { ...report, peakRss: process.resourceUsage().maxRSS * 1024 };
      if (terminal.json) return terminal.result(result);
      for (const n of report.notes) terminal.say(n);
      if (report.layers.length) {
        terminal.out(
          table(
            ['linear', 'method', 'bits', 'error', 'notes'],
            report.layers.map((l) => [l.name, l.method, l.bitsPerWeight.toFixed(3), l.error.toExponential(2), notesOf(l)]),
          ),
        );
      }
      const bits = report.layers.length ? ` · ${report.bitsPerWeight.toFixed(3)} bits per weight` : '';
      terminal.out(
        `${report.output}: ${formatBytes(report.bytes)}${bits} · ${formatSeconds(report.seconds)} · peak memory ${formatBytes(result.peakRss)}\n`,
      );
    } finally {
      await model.close();
    }
  });
}

function notesOf(l: { fallback?: string; deadColumns?: number }): string {
  return [l.fallback, l.deadColumns ? `${l.deadColumns} dead columns` : undefined].filter(Boolean).join('; ');
}

async function readRecipe(flags: Flags): Promise<Recipe> {
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
