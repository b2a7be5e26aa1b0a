/**
 * Groups of input columns. Act-order permutes columns, and then groups them in order: every group keeps its number of columns.
 * @module
 */
import type { ErrorFacts } from '@lmq/tensor';
import { fail } from './_checks.js';

/** What a configuration says of groups. */
export interface GroupSizes {
  /** Group sizes that a linear may have; -1 is a whole row. */
  groupSizes: ReadonlySet<number>;
  /** Names the configuration. */
  file: string;
}

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

/** The one group size of the configuration that gives this many groups. */
export function fittingGroupSize(config: GroupSizes, inputs: number, groups: number, where: ErrorFacts): number {
  const sizes = new Set([...config.groupSizes].map((g) => (g === -1 ? inputs : Math.min(g, inputs))));
  const fitting = [...sizes].filter((g) => Math.ceil(inputs / g) === groups);
  if (fitting.length === 1) return fitting[0]!;
  return fail('model/config', fitting.length ? 'the shapes fit several group sizes' : 'the group size does not fit the shapes', {
    ...where,
    expected: `${groups} groups of ${inputs} inputs`,
    found: `group_size ${[...config.groupSizes].join(' or ')}`,
    hint: `The group size in ${config.file} belongs to another model.`,
  });
}
