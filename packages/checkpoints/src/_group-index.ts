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
