/**
 * What a candidate of a budget is measured with.
 * @module
 */
import { isOwnGrid } from '../_own-grids.js';
import type { Stage } from '../api.js';

/** The same grid, rounded to nearest. */
export function roundedStage(stage: Stage): Stage {
  return isOwnGrid(stage.method) ? stage : { ...stage, method: 'rtn' };
}
