/**
 * Act-order permutes columns, and then groups them in order: every group keeps its number of columns.
 * @module
 */
import type { ErrorFacts } from '@lmq/tensor';
import { fail } from './_checks.js';

/** The first group whose number of columns is not that of groups in order, or -1. All entries name groups. */
export function unevenGroup(index: Int32Array, groups: number, groupSize: number): number {
  const count = new Uint32Array(groups);
  for (const g of index) count[g]!++;
  return count.findIndex((n, g) => n !== Math.min(groupSize, index.length - g * groupSize));
}

/**
 * True when a stored group index has columns grouped in order.
 * @throws LmqError `file/format` for an entry that names no group, or groups of another number of columns
 */
export function isOrdered(index: Int32Array, groups: number, groupSize: number, part: string, where: ErrorFacts): boolean {
  let ordered = true;
  for (let c = 0; c < index.length; c++) {
    const g = index[c]!;
    if (g < 0 || g >= groups)
      fail('file/format', `${part}[${c}] names no group`, { ...where, op: 'read', expected: `0 … ${groups - 1}`, found: g });
    ordered &&= g === Math.floor(c / groupSize);
  }
  const uneven = ordered ? -1 : unevenGroup(index, groups, groupSize);
  if (uneven >= 0)
    fail('file/format', `${part} gives group ${uneven} the wrong number of columns`, {
      ...where,
      op: 'read',
      hint: 'Runtimes disagree on such a file; quantize the model again.',
    });
  return ordered;
}
