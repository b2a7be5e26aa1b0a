/**
 * What collecting Fisher information will cost, from the operations of its work.
 * @module
 */
import { type Architecture, siteShape } from '@lmq/model';
import { usesFisher } from './_own-grids.js';
import { type EstimateStep, tokenSeconds, type WindowSizes } from './estimate.js';
import type { PlannedSite } from './plan.js';
import type { Rates } from './rates.js';

/**
 * The backward pass of a block in forward passes of it: 3 by its products, those of the forward pass among them, and the rest for attention,
 * whose backward pass has five products for two, and for what runs between products. Measured on
 * lmq-nano: 3.7 and 3.8.
 */
const BACKWARD_PASSES = 3.8;

/** As the backward pass has them: queries at a time, bytes of logits at a time. */
const [QUERY_TILE, LOGITS_BYTES] = [64, 2 ** 24];

/**
 * Seconds; bytes in the working folder; bytes that live at once, at most.
 * @param tensorBytes of the tensors as they are stored
 */
export function estimateFisher(
  a: Architecture,
  planned: readonly PlannedSite[],
  windows: NonNullable<WindowSizes>,
  rates: Rates,
  tensorBytes: ReadonlyMap<string, number>,
): { steps: EstimateStep[]; workBytes: number; memory: number } {
  const users = planned.filter((p) => usesFisher(p.stage));
  if (!users.length) return { steps: [], workBytes: 0, memory: 0 };
  const { tokens, longest } = windows;
  const f32 = 4;
  const withHead = users.some((p) => p.site.layer === a.layers);
  const back = a.layers - Math.min(...users.map((p) => p.site.layer));
  const perToken =
    (a.layers + back * BACKWARD_PASSES) * tokenSeconds(a, windows, rates) +
    ((withHead ? 6 : 4) * a.hidden * a.vocab) / rates.gemm +
    (4 * a.vocab) / rates.pointwise;
  const weights = users.reduce((n, p) => n + p.out * p.in, 0);

  const most = (of: (layer: number) => number) => Math.max(...Array.from({ length: a.layers }, (_, l) => of(l)));
  const stored = most((l) => a.sites.reduce((n, s) => n + (s.layer === l ? (tensorBytes.get(s.tensor) ?? 0) : 0), 0));
  const sums = most((l) => users.reduce((n, p) => n + (p.site.layer === l ? p.out * p.in * f32 : 0), 0));
  const largest = Math.max(...a.sites.map((s) => siteShape(a, s).reduce((x, y) => x * y))) * f32;
  const states = longest * (14 * a.hidden + 8 * a.heads * a.headDim + 9 * a.mlp.intermediate) * f32;
  const scores = 6 * a.heads * QUERY_TILE * longest * f32;
  const block = 2 * stored + sums + 3 * largest + states + scores; // decoded, its gradient, that as read
  const chunk = 3 * Math.min(longest * a.vocab * f32, Math.max(LOGITS_BYTES, 16 * a.vocab * f32)); // as made, as read, their gradient
  const head = 2 * (tensorBytes.get(a.tensors.head) ?? 0) + (withHead ? 3 : 1) * a.vocab * a.hidden * f32 + chunk + states;
  return {
    steps: [{ step: 'collect Fisher information', seconds: tokens * perToken }],
    workBytes: 4 * weights + (a.layers + 3) * tokens * a.hidden * f32, // inputs of all blocks, gradients of two, and the sums
    memory: Math.max(block, head),
  };
}
