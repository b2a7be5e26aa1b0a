/**
 * What a candidate of a budget is measured with.
 * @module
 */
import { isOwnGrid, usesFisher } from '../_own-grids.js';
import type { Stage } from '../api.js';

/** The same grid, rounded to nearest. Gradients are not collected for candidates: their weights count by the inputs where these are known. */
export function roundedStage(stage: Stage): Stage {
  if (usesFisher(stage)) return { ...stage, sensitivity: 'hessian-diagonal' };
  return isOwnGrid(stage.method) ? stage : { ...stage, method: 'rtn' };
}
