/**
 * `lmq quantize`: one model in, one compressed model out.
 * @module
 */
import type { PairReport } from '@lmq/pipeline';
import { openModel, quantizeModel } from '@lmq/pipeline/node';
import type { Command } from 'commander';
import { budgetMap } from '../budget-map.js';
import { addNonFinite, type NonFiniteFlags, watchNonFinite } from '../non-finite.js';
import { bytes, makeBackend } from '../options.js';
import { addRecipeOptions, calibrationOf, type RecipeFlags, readRecipe } from '../recipe-options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds, table } from '../terminal.js';
import { printEstimate } from './estimate.js';

interface Flags extends RecipeFlags, NonFiniteFlags {
  output: string;
  maxShardSize?: number;
  force?: boolean;
  restart?: boolean;
  dryRun?: boolean;
}

export function addQuantize(lmq: Command, cli: Context): void {
  const { terminal, signal } = cli;
  const command = lmq
    .command('quantize <model>')
    .description('quantize a model into a folder (lmq, GPTQ, AWQ) or a GGUF file')
    .requiredOption('-o, --output <path>', 'folder or file (GGUF) to write')
    .option('--max-shard-size <size>', 'GGUF: write parts of at most this size, e.g. 2GB or 500MB', bytes)
    .option('--force', 'replace an existing output')
    .option('--restart', 'throw away what an interrupted run has left, instead of going on from it')
    .option('--dry-run', 'check everything and print an estimate, but write nothing');
  addNonFinite(command);
  addRecipeOptions(command).action(async (name: string, flags: Flags) => {
    const recipe = await readRecipe(flags);
    const model = await openModel(name);
    try {
      for (const w of model.warnings) terminal.say(`warning: ${w}`);
      if (flags.dryRun) return await printEstimate(cli, model, recipe, flags);
      const backend = await makeBackend(flags, cli);
      const source = await calibrationOf(model, [recipe], flags, cli);
      const watch = watchNonFinite(flags, terminal);
      const report = await quantizeModel(model, {
        backend,
        recipe,
        output: flags.output,
        maxShardBytes: flags.maxShardSize,
        force: flags.force,
        restart: flags.restart,
        nonFinite: flags.nonFinite,
        onNonFinite: watch.onFound,
        ...source,
        signal,
        onProgress: terminal.progress,
      });
      if (report.resumedBlocks) terminal.say(`went on after ${report.resumedBlocks} blocks that an interrupted run had finished`);
      const { user, system } = process.cpuUsage();
      const result = { ...report, ...watch.facts(), cpuSeconds: (user + system) / 1e6, peakRss: process.resourceUsage().maxRSS * 1024 };
      if (terminal.json) return terminal.result(result);
      for (const n of report.notes) terminal.say(n);
      if (report.equalized) {
        const rows = report.equalized.flatMap((e) =>
          e.pairs.map((p) => [p.method, p.from ?? `${p.to[0]} (beside the weight)`, `${p.to.length}`, choiceOf(p), gainOf(p)]),
        );
        terminal.out(`${table(['scales', 'taken from', 'linears', 'choice', 'error'], rows)}\n`);
        for (const { name, why } of report.equalized.flatMap((e) => e.skipped)) terminal.say(`${name} was not scaled: ${why}`);
      }
      if (report.budget) {
        const { bitsPerWeight, bits, measure, error } = report.budget;
        terminal.out(
          `${budgetMap(report.budget)}${bitsPerWeight.toFixed(3)} of ${bits} bits per weight · ${measure} error ${error.toPrecision(3)}\n\n`,
        );
      }
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

function choiceOf({ ratio, alpha }: PairReport): string {
  return alpha !== undefined ? `alpha ${alpha}` : ratio === null || ratio === undefined ? 'none' : `ratio ${ratio}`;
}

function gainOf({ error, plainError }: PairReport): string {
  return error === undefined ? '' : `${plainError === undefined ? '' : `${plainError.toExponential(2)} → `}${error.toExponential(2)}`;
}

function notesOf(l: { fallback?: string; deadColumns?: number }): string {
  return [l.fallback, l.deadColumns ? `${l.deadColumns} dead columns` : undefined].filter(Boolean).join('; ');
}
