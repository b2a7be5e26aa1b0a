/**
 * `lmq inspect`: what is inside a model.
 * @module
 */
import type { Architecture } from '@lmq/model';
import { describeFormat, openInspectable } from '@lmq/pipeline/node';
import type { Command } from 'commander';
import type { Context } from '../run.js';
import { formatBytes, table } from '../terminal.js';
import { measure, type ValueStats } from '../value-stats.js';

export function addInspect(lmq: Command, { terminal, signal }: Context): void {
  lmq
    .command('inspect <model>')
    .description('list tensors and formats; with --values, look for outliers and suspicious values')
    .option('--values', 'read the weights too: range, spread, outliers, NaN')
    .action(async (name: string, flags: { values?: boolean }) => {
      const model = await openInspectable(name);
      try {
        const { checkpoint, architecture } = model;
        const described = await describeFormat(model);
        const warnings = [...model.warnings, ...described.quirks];
        const tensors: { name: string; shape: number[]; format: string; bytes: number; values?: ValueStats }[] = [];
        let parameters = 0;
        let bytes = 0;
        for (const info of checkpoint.tensors.values()) {
          signal.throwIfAborted();
          parameters += info.shape.reduce((a, b) => a * b, 1);
          bytes += info.bytes;
          const { shape, format } = info;
          const row: (typeof tensors)[number] = { name: info.name, shape, format, bytes: info.bytes };
          if (flags.values) {
            row.values = measure(await checkpoint.read(info.name));
            for (const w of row.values.suspicious) warnings.push(`${info.name}: ${w}`);
            terminal.progress({
              phase: 'read',
              done: tensors.length + 1,
              total: checkpoint.tensors.size,
              unit: 'tensors',
              layer: info.name,
            });
          }
          tensors.push(row);
        }
        terminal.finish();
        const summary = architecture && summaryOf(architecture);
        if (terminal.json) {
          return terminal.result({
            format: checkpoint.format,
            name: described.name,
            formats: described.formats,
            ...(summary && { architecture: summary }),
            parameters,
            bytes,
            tensors,
            warnings,
          });
        }
        terminal.out(
          `${name} · ${described.name} · ${(parameters / 1e6).toPrecision(4)} M parameters · ${formatBytes(bytes)} · ${((bytes * 8) / parameters).toFixed(2)} bits per parameter\n`,
        );
        const facts = Object.entries(summary ?? {}).map(([k, v]) => `${k} ${v}`);
        terminal.out(`${facts.join(' · ')}${facts.length ? '\n' : ''}\n`);
        terminal.out(
          `${table(
            ['format', 'tensors', 'bytes', 'share'],
            described.formats.map((f) => [f.format, String(f.tensors), formatBytes(f.bytes), `${(100 * f.share).toFixed(1)} %`]),
          )}\n`,
        );
        const header = ['tensor', 'shape', 'format', 'bytes', ...(flags.values ? ['min', 'max', 'std', 'max/std'] : [])];
        const g = (x: number) => x.toPrecision(4);
        const rows = tensors.map((t) => [
          t.name,
          t.shape.join(' × '),
          t.format,
          formatBytes(t.bytes),
          ...(t.values ? [g(t.values.min), g(t.values.max), g(t.values.std), t.values.outlier.toFixed(1)] : []),
        ]);
        terminal.out(table(header, rows));
        for (const w of warnings) terminal.out(`warning: ${w}\n`);
      } finally {
        await model.close();
      }
    });
}

function summaryOf({ family, layers, hidden, heads, kvHeads, headDim, vocab, context, moe }: Architecture) {
  return {
    family,
    layers,
    hidden,
    heads,
    kvHeads,
    headDim,
    vocab,
    context,
    ...(moe && { experts: moe.experts, expertsPerToken: moe.topK }),
  };
}
