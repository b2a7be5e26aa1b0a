/**
 * What stages that equalize will cost, from the operations of their work.
 * @module
 */
import { type Architecture, type Site, siteShape } from '@lmq/model';
import type { Recipe } from '../api.js';
import { type EstimateStep, tokenSeconds, type WindowSizes } from '../estimate.js';
import type { PlannedSite } from '../plan.js';
import type { Rates } from '../rates.js';

/** Candidates of a search, and steps of a clip search. */
const [CANDIDATES, CLIPS, ALPHAS, SAMPLE] = [20, 10, 22, 512];

/** Seconds of each stage; bytes in the working folder besides those of the quantized weights, and in memory. */
export function estimateEqualize(
  a: Architecture,
  { equalize = [] }: Recipe,
  planned: readonly PlannedSite[],
  windows: NonNullable<WindowSizes>,
  rates: Rates,
): { steps: EstimateStep[]; workBytes: number; memory: number } {
  const { tokens } = windows;
  const perToken = tokenSeconds(a, windows, rates);
  const sites = new Map<string, Site>(planned.map((p) => [p.site.input, p.site]));
  const share = (s: Site) => (s.expert === undefined ? 1 : (a.moe?.topK ?? 1) / (a.moe?.experts ?? 1));
  const width = (s: Site) => siteShape(a, s)[1];
  const sum = (of: (s: Site) => number) => [...sites.values()].reduce((n, s) => n + of(s), 0);
  const look = a.layers * tokens * perToken + sum((s) => (tokens * share(s) * width(s)) / (rates.pointwise / 4)); // minima, maxima, means
  const weights = planned.reduce((n, p) => n + p.out * p.in, 0);
  const steps = equalize.map((stage): EstimateStep => {
    if (stage.method === 'smoothquant') {
      const search = stage.alpha === 'search' ? ALPHAS * ((2 * SAMPLE * weights) / rates.gemm + weights / rates.round) : 0;
      return { step: 'find scales (smoothquant)', seconds: look + search };
    }
    const hessians = sum((s) => (width(s) ** 2 * tokens * share(s)) / rates.syrk);
    const halves = CANDIDATES * (a.layers * tokens * perToken + weights / rates.round);
    const single = planned.reduce((n, p) => n + (p.site.role === 'down' ? (2 * CANDIDATES * p.out * p.in ** 2) / rates.gemm : 0), 0);
    const clip = (p: PlannedSite) =>
      p.out * p.in * ((2 * (p.stage.groupSize < 0 ? p.in : p.stage.groupSize)) / rates.gemm + 1 / rates.round);
    const clips = stage.clip ? CLIPS * planned.reduce((n, p) => n + clip(p), 0) : 0;
    return { step: 'search scales (awq)', seconds: look + hessians + halves + single + clips };
  });
  if (!equalize.length) return { steps, workBytes: 0, memory: 0 };
  const most = (of: (p: PlannedSite) => number) =>
    Math.max(...Array.from({ length: a.layers }, (_, l) => planned.reduce((n, p) => n + (p.site.layer === l ? of(p) : 0), 0)));
  const block = most((p) => 4 * p.out * p.in);
  const squares = most((p) => (sites.get(p.site.input) === p.site ? 4 * p.in ** 2 : 0));
  const activations = windows.longest * (8 * a.hidden + 4 * a.heads * a.headDim + 6 * a.mlp.intermediate) * 4;
  return {
    steps,
    workBytes: equalize.length * 4 * weights + 3 * tokens * a.hidden * 4,
    memory: 5 * block + squares + activations, // as stored, loaded, a candidate twice, folded
  };
}
