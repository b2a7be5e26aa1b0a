/**
 * What each linear got of a budget, as a picture: a row for each block, a column for each linear in it.
 * @module
 */
import type { BudgetReport } from '@lmq/pipeline';
import { table } from './terminal.js';

/** How a linear that is kept looks. */
const KEPT = '·';

/** Bits by block and linear. Experts of a block share a column, with how many of them have what: `4 ×6 3 ×2`. Linears outside blocks come last. */
export function budgetMap({ linears }: BudgetReport): string {
  const rows = new Map<string, Map<string, string[]>>();
  const columns = new Set<string>();
  for (const { name, choice } of linears) {
    const [, block = name, rest = ''] = /\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
    const column = rest.replace(/^.*\./, '').replace(/_proj$/, '');
    if (rest) columns.add(column);
    const row = rows.get(block) ?? new Map<string, string[]>();
    rows.set(block, row);
    row.set(column, [...(row.get(column) ?? []), choice.method === undefined ? KEPT : `${choice.bits}`]);
  }
  const named = [...columns];
  const lines = [...rows].map(([block, row]) => [
    block,
    ...(row.has('') ? [cell(row.get('')!)] : named.map((c) => cell(row.get(c) ?? []))),
  ]);
  const kept = linears.some((l) => l.choice.method === undefined) ? `bits; ${KEPT} kept as it is` : 'bits';
  return `${table(['block', ...named], lines)}${kept}\n`;
}

function cell(values: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const v of values) counts.set(v, (counts.get(v) ?? 0) + 1);
  if (counts.size < 2) return values[0] ?? '';
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([v, n]) => `${v} ×${n}`)
    .join(' ');
}
