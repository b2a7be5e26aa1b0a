/**
 * What recipes are refused for by formats whose configuration describes all linears at once.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { type OwnGridMethod, ownGridOf } from '../_own-grids.js';
import type { Stage } from '../api.js';
import type { PlannedSite } from '../plan.js';

/**
 * @param describe what is wrong with a stage on one of these grids, and what must be the same for all
 * @throws LmqError `export/unsupported` naming the first linear that does not fit
 */
export function checkOneScheme(
  target: string,
  grids: readonly OwnGridMethod[],
  planned: readonly PlannedSite[],
  describe: (stage: Stage) => { wrong: string[]; scheme: string },
): void {
  const refuse = (tensor: string | undefined, expected: string, found: string): never => {
    throw new LmqError(
      'export/unsupported',
      `${target} cannot hold ${tensor === undefined ? 'a model that is not quantized' : 'this linear'}`,
      {
        op: 'export',
        ...(tensor !== undefined && { tensor }),
        expected,
        found,
        hint: 'The nearest export that holds it is lmq; or give all linears one method and its options.',
      },
    );
  };
  const [first] = planned;
  if (!first) refuse(undefined, `method ${grids.join(' or ')}`, 'no stage');
  for (const { site, stage } of planned) {
    if (!grids.some((grid) => grid === ownGridOf(stage))) refuse(site.name, `method ${grids.join(' or ')}`, stage.method);
    const { wrong, scheme } = describe(stage);
    if (wrong.length) refuse(site.name, 'what its kernels have', wrong.join(', '));
    if (site.role === 'head') refuse(site.name, 'a head of plain floats', 'a quantized head');
    const { scheme: others } = describe(first!.stage);
    if (scheme !== others) refuse(site.name, others, scheme);
  }
}
