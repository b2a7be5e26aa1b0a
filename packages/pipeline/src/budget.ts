/**
 * Mixed precision under a budget of bits: what each linear may get, and what it gets once the errors are known (`measureBlocks`). The choice becomes
 * overrides of the recipe, so that nothing after it knows of budgets.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import type { Architecture, Site } from '@lmq/model';
import { type AllocationItem, allocate } from '@lmq/quant-core';
import { isLmqError, LmqError } from '@lmq/tensor';
import { equalizedTensors } from './_equalize/plan.js';
import { isFolderName } from './_folders/table.js';
import type { Budget, BudgetReport, Candidate, MeasuredCandidate, Recipe, Stage } from './api.js';
import { affineBytes } from './estimate.js';
import { checkExport } from './export-rules.js';
import { checkGroups, type PlannedSite, planSites } from './plan.js';
import { checkStage, stageFor } from './recipe.js';

/** What a linear may get. */
export interface PlannedCandidate {
  /** What is to be said in an override; the first of the recipe's candidates that come to the same here. */
  options: Candidate;
  /** With the recipe's own overrides, which win; null: the linear is kept. */
  stage: Stage | null;
  /** The same where the stage is. */
  label: string;
  /** Stored. */
  bytes: number;
}

/** A linear that a budget is spent on. */
export interface BudgetLinear extends Omit<PlannedSite, 'stage'> {
  /** Linears of one group get the same. */
  group?: string;
  /** One, where the recipe's overrides leave no choice. */
  candidates: PlannedCandidate[];
}

export interface BudgetPlan {
  linears: BudgetLinear[];
  /** Of all linears. */
  weights: number;
  /** Stored bytes of all linears, at most. */
  bytes: number;
}

/** The error of every candidate of a linear, in order. */
export interface LinearErrors {
  name: string;
  errors: number[];
}

const KEPT: Candidate = { skip: true };
const DEFAULT_BITS = [2, 3, 4, 5, 6, 8];

/**
 * Lists the candidates of every linear that the recipe quantizes, and checks that whatever is chosen can be done and exported.
 * @throws LmqError what `planSites` throws for the recipe without its budget, and for candidates; `argument/option` for a budget that the smallest candidates
 * exceed, saying the least, and when no linear is left to be quantized
 */
export async function planBudget(checkpoint: Checkpoint, architecture: Architecture, recipe: Recipe): Promise<BudgetPlan> {
  const { budget, ...plain } = recipe;
  if (!budget) throw new LmqError('argument/option', 'the recipe has no budget', { op: 'budget' });
  const planned = planSites(checkpoint, architecture, plain);
  if (!planned.length) {
    throw new LmqError('argument/option', 'there is no linear to spend the budget on', { op: 'budget', hint: 'Skip fewer of them.' });
  }
  const float32 = equalizedTensors(checkpoint, architecture, plain, []).float32; // where they are not quantized afterwards
  const agree = budget.agree ?? (isFolderName(recipe.export) ? 'fused' : 'none');
  const keptBytes = ({ site, out, in: width }: PlannedSite) =>
    float32.has(site.tensor) ? 4 * out * width : checkpoint.tensors.get(site.tensor)!.bytes;
  const linearsOf = (candidates: readonly Candidate[]) =>
    planned.map((p): BudgetLinear => {
      const { site, out, in: width } = p;
      const group = agree === 'fused' ? groupOf(site) : undefined;
      const all = candidates.map((options): PlannedCandidate => {
        const stage = optionsOf(plain, site.name, options);
        if (stage) {
          checkStage(stage, site.name);
          checkGroups(site, stage, width);
        }
        return { options, stage, label: JSON.stringify(stage), bytes: stage ? affineBytes(out, width, stage) : keptBytes(p) };
      });
      return { site, out, in: width, ...(group !== undefined && { group }), candidates: choicesOf(all) };
    });
  const linears = linearsOf(budget.candidates ?? (await defaultCandidates(plain, linearsOf)));
  await checkMixtures(recipe, linears);
  const weights = planned.reduce((n, p) => n + p.out * p.in, 0);
  const plan = { linears, weights, bytes: Math.floor((budget.bits * weights) / 8) };
  checkFeasible(plan, budget);
  return plan;
}

/** The stage of a linear with a candidate's options; null: it is kept. */
const optionsOf = (plain: Recipe, name: string, options: Candidate) =>
  stageFor({ ...plain, overrides: [{ ...options, match: name }, ...plain.overrides] }, name);

/**
 * Candidates that differ. Where overrides have made quantizing candidates the same, they have decided, and the linear is not kept instead.
 */
function choicesOf(all: readonly PlannedCandidate[]): PlannedCandidate[] {
  const different = [...new Map([...all].reverse().map((c) => [c.label, c])).values()].reverse();
  const quantizing = all.filter((c) => !c.options.skip).length;
  const left = different.filter((c) => c.stage);
  return quantizing > 1 && left.length === 1 ? left : different;
}

/** Of those that come to mind, what the export can hold. */
async function defaultCandidates(plain: Recipe, linearsOf: (candidates: readonly Candidate[]) => BudgetLinear[]): Promise<Candidate[]> {
  const { method } = plain.stages[0]!;
  const widths: Candidate[] = method === 'nf4' || method === 'fp4' ? [{}] : DEFAULT_BITS.map((bits) => ({ bits }));
  let refusal: unknown;
  const held: Candidate[] = [];
  for (const candidate of [...widths, KEPT]) {
    try {
      await checkMixtures(plain, linearsOf([{}, candidate]));
      held.push(candidate);
    } catch (e) {
      if (!(isLmqError(e) && e.code === 'export/unsupported')) throw e;
      refusal = e;
    }
  }
  if (held.length < 2) throw refusal;
  return held;
}

/**
 * Refuses candidates that the export cannot hold, alone or beside each other. Formats compare linears with each other, at most all with the first,
 * so it is enough that the first group has one candidate and all others another.
 * @throws LmqError `export/unsupported`
 */
async function checkMixtures(recipe: Recipe, linears: readonly BudgetLinear[]): Promise<void> {
  const labels = [...new Set(linears.flatMap((l) => l.candidates.map((c) => c.label)))];
  const isFirst = (l: BudgetLinear) => l === linears[0] || (l.group !== undefined && l.group === linears[0]!.group);
  const take = ({ candidates }: BudgetLinear, label: string) => (candidates.find((c) => c.label === label) ?? candidates[0]!).stage;
  for (const first of labels) {
    for (const others of labels) {
      if (first === others && labels.length > 1) continue;
      const planned = linears.flatMap((l): PlannedSite[] => {
        const stage = take(l, isFirst(l) ? first : others);
        return stage ? [{ ...l, stage }] : [];
      });
      await checkExport(recipe, planned);
    }
  }
}

/** Every linear as each of its candidates would have it. */
export function candidatesOf(plan: BudgetPlan | undefined): PlannedSite[] {
  return (plan?.linears ?? []).flatMap(({ candidates, ...site }) => candidates.flatMap(({ stage }) => (stage ? [{ ...site, stage }] : [])));
}

/** @throws LmqError `argument/option` saying the least bits per weight that the candidates allow */
function checkFeasible({ linears, weights, bytes }: BudgetPlan, { bits }: Budget): void {
  const items = itemsOf(linears, (c) => c.bytes);
  const { bytes: least } = allocate({ items, budget: Number.MAX_SAFE_INTEGER, solver: 'greedy' }); // as if size were all that mattered
  if (least <= bytes) return;
  throw new LmqError('argument/option', 'no choice of candidates is as small as the budget', {
    op: 'budget',
    expected: `at least ${ceil((8 * least) / weights)} bits per weight`,
    found: bits,
    hint: 'Scales and zero points count. Allow more bits, give candidates of fewer, or longer groups.',
  });
}

/** Up, so that what is recommended is enough. */
const ceil = (bits: number) => Math.ceil(bits * 1e4) / 1e4;

function itemsOf(
  linears: readonly BudgetLinear[],
  error: (c: PlannedCandidate, linear: number, candidate: number) => number,
): AllocationItem[] {
  return linears.map(({ site, group, candidates }, l) => ({
    name: site.name,
    ...(group !== undefined && { group }),
    candidates: candidates.map((c, i) => ({ label: c.label, bytes: c.bytes, error: error(c, l, i) })),
  }));
}

/** Linears that runtimes run as one matrix: those that read the same, and of experts all that do the same. */
function groupOf({ layer, role }: Site): string {
  const fused = role === 'q' || role === 'k' || role === 'v' ? 'qkv' : role === 'gate' || role === 'up' ? 'gate up' : role;
  return `${layer} ${fused}`;
}

/**
 * What a budget may come to before anything is measured: the recipe with the most bytes that fit, and at most how many bytes more another choice
 * stores.
 * @param stored bytes of a linear in the output; default: as the budget counts them
 */
export function largestChoice(
  recipe: Recipe,
  plan: BudgetPlan,
  stored: (linear: BudgetLinear, candidate: PlannedCandidate) => number = (_, c) => c.bytes,
): { recipe: Recipe; spare: number } {
  const most = plan.linears.map((l) => Math.max(...l.candidates.map((c) => stored(l, c))));
  const saved = plan.linears.map((l, i) => ({ name: l.site.name, errors: l.candidates.map((c) => most[i]! - stored(l, c)) }));
  const { recipe: largest, report } = allocateBudget({ ...recipe, budget: { ...recipe.budget!, solver: 'greedy' } }, plan, saved);
  return { recipe: largest, spare: Math.floor(report.error - report.bound) };
}

/**
 * Spends the budget.
 * @param measured of all linears of the plan
 * @returns `recipe` without a budget and with the choices as overrides before its own
 * @throws LmqError what `allocate` throws; `argument/value` for errors of other linears
 */
export function allocateBudget(
  recipe: Recipe,
  { linears, weights, bytes }: BudgetPlan,
  measured: readonly LinearErrors[],
): { recipe: Recipe; report: BudgetReport } {
  const { budget, ...plain } = recipe;
  const { bits, measure, solver } = budget!;
  const byName = new Map(measured.map((m) => [m.name, m.errors]));
  const errors = linears.map(({ site, candidates }) => {
    const own = byName.get(site.name);
    if (own?.length === candidates.length) return own;
    throw new LmqError('argument/value', 'the errors are not of these candidates', {
      op: 'budget',
      tensor: site.name,
      expected: `${candidates.length} errors`,
      found: own?.length ?? 0,
    });
  });
  const spent = allocate({ items: itemsOf(linears, (_, l, i) => errors[l]![i]!), budget: bytes, solver });
  const overrides: Recipe['overrides'] = [];
  const reports = linears.map(({ site, out, in: width, candidates }, l) => {
    const described = candidates.map(({ stage, bytes }, i): MeasuredCandidate => {
      const { method, bits, groupSize } = stage ?? {};
      return { ...(stage && { method, bits, groupSize }), bitsPerWeight: (8 * bytes) / (out * width), error: errors[l]![i]! };
    });
    const index = candidates.findIndex((c) => c.label === spent.choices[l]!.label);
    const { options, label } = candidates[index]!;
    if (label !== JSON.stringify(stageFor(plain, site.name))) overrides.push({ match: site.name, ...options });
    return { name: site.name, weights: out * width, choice: described[index]!, candidates: described };
  });
  return {
    recipe: { ...plain, overrides: [...overrides, ...plain.overrides] },
    report: { bits, measure, solver, bitsPerWeight: (8 * spent.bytes) / weights, error: spent.error, bound: spent.bound, linears: reports },
  };
}
