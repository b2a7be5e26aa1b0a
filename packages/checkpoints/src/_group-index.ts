/**
 * Act-order permutes columns, and then groups them in order: every group keeps its number of columns.
 * @module
 */

/** The first group whose number of columns is not that of groups in order, or -1. All entries name groups. */
export function unevenGroup(index: Int32Array, groups: number, groupSize: number): number {
  const count = new Uint32Array(groups);
  for (const g of index) count[g]!++;
  return count.findIndex((n, g) => n !== Math.min(groupSize, index.length - g * groupSize));
}
