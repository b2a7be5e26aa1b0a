/**
 * What a recipe will cost, before any work: the size of the output (exact), processor seconds, and peak memory (an upper bound).
 *
 * Seconds count the operations of the real work and divide by rates measured now, on this backend; only the rate of reading and writing, the
 * files of a linear, and how many experts will be starved are assumptions. Memory adds up what lives at the same time in each phase. The
 * command line's tests compare size and memory with real runs.
 * @module
 */
import type { Architecture } from '@lmq/model';
import type { ActivationRangeOpts } from '@lmq/quant-core';
import { isOwnGrid, ownGridBytes, ownGridOf, usesFisher } from './_own-grids.js';
import { fewestTokens } from './_starved.js';
import type { Stage } from './api.js';
import { planInput, rangeKey } from './input-quant.js';
import { calibrates, hasStaticInput, isAsymmetric, type PlannedSite } from './plan.js';
import { linearSeconds, type Rates } from './rates.js';

/** Reading, encoding and writing together; not measured, because trying it out would write to the user's disk. */
const DISK_BYTES_PER_SECOND = 0.5e9;

/** Small reads, writes and arrays that each linear takes besides; as it was where linears are too small to hide it. */
const SECONDS_PER_LINEAR = 2.5e-3;

/** Arrays that are done with may add up to this before the garbage collector looks at them. */
const UNCOLLECTED_BYTES = 48e6;

export interface EstimateStep {
  step: string;
  seconds: number;
}

/** What the windows of calibration look like; null: nothing is calibrated, or saved statistics are used. */
export type WindowSizes = { tokens: number; longest: number } | null;

/** Stored bytes of a linear once quantized. */
export function affineBytes(out: number, width: number, s: Stage): number {
  if (ownGridOf(s) !== undefined) return ownGridBytes(out, width, s);
  const groups = s.groupSize < 0 ? 1 : width / s.groupSize;
  const scales = out * groups * (s.scaleFormat === 'fp32' ? 4 : 2);
  if (s.trits) return tritBytes(out, width, groups, s, scales);
  const codes = out * Math.ceil((width * s.bits) / 8);
  const zeros = s.symmetric ? 0 : Math.ceil((out * groups * s.bits) / 8);
  const index = s.method === 'gptq' && s.actOrder && s.staticGroups !== true && groups > 1 ? 4 * width : 0;
  return codes + scales + zeros + index;
}

/** Trits: codes, tables of 4 floats, scales where they are symmetric, and the columns of each part where groups have tables of their own. */
function tritBytes(out: number, width: number, groups: number, s: Stage, scales: number): number {
  const ordered = s.method === 'gptq' && s.actOrder && s.staticGroups !== true;
  const parts = groups > 1 && (ordered || !s.symmetric) ? groups : 1;
  const codes = parts * out * Math.ceil(width / parts / 4);
  return codes + (s.symmetric ? 16 * parts + scales : 16 * parts * out) + (parts > 1 ? 4 * width : 0);
}

const activeExperts = ({ moe }: Architecture) => moe?.topK ?? 1;

/** Of one token on its way through one block. */
export function tokenSeconds(a: Architecture, windows: NonNullable<WindowSizes>, rates: Rates): number {
  const active = activeExperts(a);
  const projections = 2 * a.hidden * a.headDim * (a.heads + a.kvHeads);
  const mlp = 3 * a.hidden * a.mlp.intermediate * active;
  const scores = 2 * windows.longest * a.heads * a.headDim; // 2 products of 2 operations over half the window on average
  const between = 6 * a.hidden + a.headDim * (a.heads + a.kvHeads) + a.mlp.intermediate * active;
  return (2 * (projections + mlp)) / rates.gemm + scores / rates.attention + between / rates.pointwise;
}

/** Of the sums of all inputs, with their cross terms. */
export function hessianSeconds(a: Architecture, planned: readonly PlannedSite[], tokens: number, rates: Rates): number {
  const inputs = new Map(planned.map((p) => [p.site.input, p]));
  let seconds = 0;
  for (const p of inputs.values()) {
    const updates = p.in ** 2 * tokens * (p.site.expert === undefined ? 1 : activeExperts(a) / (a.moe?.experts ?? 1));
    seconds += updates / rates.syrk + (isAsymmetric(p.stage) ? (2 * updates) / rates.gemm : 0);
  }
  return seconds;
}

/** Processor seconds, phase by phase. */
export function estimateSeconds(
  a: Architecture,
  planned: readonly PlannedSite[],
  windows: WindowSizes,
  rates: Rates,
  outputBytes: number,
): EstimateStep[] {
  const gptq = planned.filter((p) => calibrates(p.stage));
  const layers = planned.length ? Math.max(...planned.map((p) => p.site.layer)) + 1 : 0; // the head is one more
  const steps: EstimateStep[] = [];
  if (windows && gptq.length) {
    const secondsPerToken = tokenSeconds(a, windows, rates);
    const sets = planned.some((p) => p.stage.trueSequential) ? 4 : 1;
    const float = planned.some((p) => isAsymmetric(p.stage)) ? sets : 0;
    const passes = Math.min(layers, a.layers) * (sets + float) + (layers - 1);
    steps.push({ step: 'run the calibration windows through the blocks', seconds: passes * windows.tokens * secondsPerToken });
    const sums = hessianSeconds(a, planned, windows.tokens, rates);
    const observed = observedSeconds(a, planned, windows.tokens, rates);
    if (observed) steps.push({ step: 'find the ranges of inputs', seconds: observed });
    steps.push({ step: `accumulate Hessians${float ? ' and cross terms' : ''}`, seconds: sums });
    const starved = starvedSeconds(a, gptq, windows.tokens, secondsPerToken, rates);
    if (starved) steps.push({ step: 'calibrate starved experts, as far as can be known', seconds: starved });
  } else if (gptq.length) {
    const bytes = planned.reduce((sum, p) => sum + 4 * p.in ** 2, 0);
    steps.push({ step: 'read statistics', seconds: bytes / DISK_BYTES_PER_SECOND });
  }
  const quantize = planned.reduce((sum, p) => sum + linearSeconds(p.stage, p.out, p.in, rates), gptq.length * SECONDS_PER_LINEAR);
  steps.push({ step: 'quantize', seconds: quantize });
  steps.push({ step: 'read and write', seconds: outputBytes / DISK_BYTES_PER_SECOND });
  return steps;
}

/** Inputs of linears whose range calibration finds, once for each input and way of finding it. */
export function observedRanges(planned: readonly PlannedSite[]): Map<string, { site: PlannedSite; range: ActivationRangeOpts }> {
  const out = new Map<string, { site: PlannedSite; range: ActivationRangeOpts }>();
  for (const site of planned) {
    const range = site.stage.input === undefined ? undefined : planInput(site.stage.input).range;
    if (range) out.set(`${site.site.input} ${rangeKey(range)}`, { site, range });
  }
  return out;
}

function observedSeconds(a: Architecture, planned: readonly PlannedSite[], tokens: number, rates: Rates): number {
  let seconds = 0;
  for (const { site, range } of observedRanges(planned).values()) {
    const share = site.site.expert === undefined ? 1 : activeExperts(a) / (a.moe?.experts ?? 1);
    seconds += (site.in * tokens * share) / rates.observe.get(rangeKey(range))!;
  }
  return seconds;
}

/**
 * What `feedStarved` takes. Which experts starve only the text shows. With even routing it is all of them when `minTokens` is more than each
 * gets, and else none; but routers are not even, and the pass over a block costs much more than each expert in it: so one expert of each
 * block is counted (of lmq-nano-moe, one starves in two of its four blocks).
 */
function starvedSeconds(a: Architecture, gptq: readonly PlannedSite[], tokens: number, secondsPerToken: number, rates: Rates): number {
  const sites = gptq.filter((p) => p.site.expert !== undefined);
  if (!a.moe || !sites.length) return 0;
  const fewest = sites[0]!.stage.minTokens ?? fewestTokens(a, tokens);
  if (fewest === 0) return 0;
  const starving = fewest > (tokens * a.moe.topK) / a.moe.experts ? a.moe.experts : 1;
  const layers = new Set(sites.map((p) => p.site.layer)).size;
  const sets = sites.some((p) => p.stage.trueSequential) ? 2 : 1; // what the router reads, and what down reads
  const asymmetric = sites.some((p) => isAsymmetric(p.stage));
  const models = asymmetric ? 2 : 1;
  const { intermediate } = a.mlp;
  const inputs = starving * ((4 * a.hidden * intermediate) / rates.gemm + intermediate / rates.pointwise);
  const updates = a.hidden ** 2 + starving * intermediate ** 2;
  const sums = updates / rates.syrk + (asymmetric ? (2 * updates) / rates.gemm : 0);
  return layers * tokens * (models * (sets * secondsPerToken + inputs) + sums);
}

/**
 * Bytes that live at once on top of the process as it is, at most.
 * @param tensorBytes of the tensors as they are stored
 * @param widest bytes of the largest tensor while it is written, where that is more
 */
export function estimateMemory(
  a: Architecture,
  planned: readonly PlannedSite[],
  windows: WindowSizes,
  tensorBytes: ReadonlyMap<string, number>,
  widest = 0,
): number {
  const f32 = 4;
  const calibrated = planned.some((p) => calibrates(p.stage));
  const asymmetric = planned.some((p) => isAsymmetric(p.stage));
  const most = (bytes: (layer: number) => number) => Math.max(0, ...Array.from({ length: a.layers + 1 }, (_, l) => bytes(l))); // with the head
  const sites = new Set([...a.sites, ...planned.map((p) => p.site)]);
  const block = most((layer) => [...sites].reduce((sum, s) => sum + (s.layer === layer ? (tensorBytes.get(s.tensor) ?? 0) : 0), 0));
  const blocks = asymmetric && planned.some((p) => p.stage.trueSequential) ? 2 : 1;
  let sums = 0;
  let activations = 0;
  if (calibrated && windows) {
    const inputs = [...new Map(planned.map((p) => [p.site.input, p])).values()];
    const matrices = asymmetric ? 2 : 1; // with the cross term
    sums = most((layer) => inputs.reduce((sum, p) => sum + (p.site.layer === layer ? matrices * p.in ** 2 * f32 : 0), 0));
    const inputWidth = 2 * a.hidden + a.heads * a.headDim + a.mlp.intermediate;
    const kept = (asymmetric ? inputWidth : 0) + (planned.some((p) => hasStaticInput(p.stage)) ? 2 * inputWidth : 0); // copies, here and on the host
    const width = 6 * a.hidden + 3 * a.heads * a.headDim + 3 * a.mlp.intermediate + kept;
    activations = windows.longest * width * f32;
  }
  let work = 0; // the largest linear: decoded weights, codes, packed result; for GPTQ also H on both sides, its factor and inverse
  for (const { stage, out, in: n } of planned) {
    const squares = isOwnGrid(stage.method)
      ? calibrates(stage)
        ? 1
        : 0
      : stage.method === 'rtn'
        ? 0
        : 4 + (isAsymmetric(stage) ? 2 : 0) + (windows ? 0 : 1); // the cross term; a sum as read
    const own =
      (isOwnGrid(stage.method) ? (usesFisher(stage) ? 8 : 7) : stage.method === 'rtn' ? 4 : 5) * out * n * f32 + squares * n * n * f32;
    work = Math.max(work, own);
  }
  const embedding = calibrated && windows ? 2 * (tensorBytes.get(a.tensors.embedding) ?? 0) : 0;
  const write = 3 * Math.max(widest, ...tensorBytes.values());
  const garbage = Math.min(work, UNCOLLECTED_BYTES);
  return Math.max(2 * blocks * block + sums + Math.max(activations, work) + garbage, embedding, write);
}
