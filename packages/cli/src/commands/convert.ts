/**
 * `lmq convert`: the same weights in another format.
 * @module
 */
import { checkExportName, EXPORTS } from '@lmq/pipeline';
import { type Change, convertModel, openModel } from '@lmq/pipeline/node';
import { LmqError, printable } from '@lmq/tensor';
import type { Command } from 'commander';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds, table } from '../terminal.js';

interface Flags {
  output?: string;
  export: string;
  original?: string;
  force?: boolean;
  dryRun?: boolean;
}

export function addConvert(lmq: Command, { terminal, signal, exitWith }: Context): void {
  lmq
    .command('convert <model>')
    .description('store a model in another format, with the values that it has, or say why not')
    .requiredOption('--export <format>', EXPORTS.join(', '))
    .option('-o, --output <path>', 'folder or file (GGUF) to write')
    .option('--original <folder>', 'of a GGUF file: the Hugging Face folder that it was made of, for configuration and tokenizer')
    .option('--force', 'replace an existing output')
    .option('--dry-run', 'say what would become of each tensor, but write nothing')
    .action(async (name: string, flags: Flags) => {
      const { output, dryRun, original, force } = flags;
      if (output === undefined && !dryRun)
        throw new LmqError('argument/option', 'nowhere to write', { op: 'convert', expected: '-o <path>, or --dry-run' });
      const target = checkExportName(flags.export);
      const model = await openModel(name);
      try {
        for (const w of model.warnings) terminal.say(`warning: ${w}`);
        const report = await convertModel(model, {
          export: target,
          output: output ?? '',
          original,
          force,
          dryRun,
          signal,
          onProgress: terminal.progress,
        });
        terminal.finish();
        if (report.refused.length) exitWith(2);
        if (terminal.json) return terminal.result(report);
        for (const n of report.notes) terminal.say(n);
        terminal.out(summary(report.changes));
        for (const e of report.refused) terminal.out(`refused: ${e.message}\n`);
        if (!dryRun) terminal.out(`\n${report.output}: ${formatBytes(report.bytes)} · ${formatSeconds(report.seconds)}\n`);
      } finally {
        await model.close();
      }
    });
}

const WORDS = { same: 'the same bits', exact: 'the same values', rounded: 'rounded', refused: 'cannot be stored' };

/** Tensors of one kind with one fate, a line each. */
function summary(changes: readonly Change[]): string {
  const groups = new Map<string, { change: Change; count: number; worst: number }>();
  for (const change of changes) {
    const key = JSON.stringify([change.from, change.to, change.effect]);
    const group = groups.get(key) ?? { change, count: 0, worst: 0 };
    group.count++;
    group.worst = Math.max(group.worst, change.error ?? 0);
    groups.set(key, group);
  }
  const rows = [...groups.values()].map(({ change: { from, to, effect, tensor }, count, worst }) => [
    printable(from),
    to,
    String(count),
    WORDS[effect] + (worst ? `, error ${worst.toExponential(1)} at most` : ''),
    printable(tensor),
  ]);
  return table(['from', 'to', 'tensors', 'values', 'such as'], rows);
}
