/**
 * `lmq verify`: is a model file what it says it is, and how far is it from the original.
 * @module
 */
import { openModel, verifyModel } from '@lmq/pipeline/node';
import { LmqError, printable } from '@lmq/tensor';
import type { Command } from 'commander';
import { number } from '../options.js';
import type { Context } from '../run.js';
import { formatBytes, table } from '../terminal.js';

interface Flags {
  against?: string;
  maxError?: number;
}

/** Linears listed for people; `--json` has all. */
const WORST = 5;

export function addVerify(lmq: Command, { terminal, signal, atEnd, exitWith }: Context): void {
  lmq
    .command('verify <model>')
    .description('read every tensor again and check what can be checked: container, labels, shapes, scales, zero points, tokenizer')
    .option('--against <base>', 'the original model: error of every linear relative to it')
    .option('--max-error <x>', 'exit with 4 when a linear has a larger relative squared error', number)
    .action(async (name: string, flags: Flags) => {
      const { maxError } = flags;
      if (maxError !== undefined && flags.against === undefined)
        throw new LmqError('argument/option', '--max-error needs --against', { op: 'verify' });
      const against = flags.against === undefined ? undefined : await openModel(flags.against);
      if (against) atEnd(() => against.close());
      const report = await verifyModel(name, { against, signal, onProgress: terminal.progress });
      terminal.finish();
      const worst = report.errors?.[0];
      const missed = maxError !== undefined && !(worst && worst.error <= maxError);
      if (!report.valid) exitWith(3);
      else if (missed) exitWith(4);
      if (terminal.json) return terminal.result(report);
      for (const { check, severity, message, tensor, file } of report.findings) {
        const where = [tensor, file].filter((x) => x !== undefined && !message.includes(x)).map(printable);
        terminal.out(`${severity} ${check}: ${message}${where.length ? ` (${where.join(', ')})` : ''}\n`);
      }
      if (report.errors) {
        terminal.out(
          table(
            ['worst linears', 'relative squared error'],
            report.errors.slice(0, WORST).map((e) => [printable(e.name), e.error.toExponential(2)]),
          ),
        );
      }
      if (missed) terminal.out(`error: ${worst ? `${printable(worst.name)} is above ${maxError}` : 'nothing could be compared'}\n`);
      const errors = report.findings.filter((f) => f.severity === 'error').length;
      const verdict = errors ? `${errors} errors` : 'valid';
      const warnings = report.findings.length - errors;
      terminal.out(
        `${name}: ${verdict}${warnings ? `, ${warnings} warnings` : ''} · ${report.tensors} tensors · ${formatBytes(report.bytes)} read\n`,
      );
    });
}
