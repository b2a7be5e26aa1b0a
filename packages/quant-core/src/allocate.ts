/**
 * Mixed precision as a multiple-choice knapsack: every linear takes one of its candidates, so that the sum of their errors is as small as it can be
 * within so many bytes. Whatever measured the errors: they only have to add up.
 *
 * `greedy` walks down the lower convex hulls of all (bytes, error) points, the steepest step first: the linear relaxation of the problem (Sinha
 * and Zoltners 1979), whose first step that does not fit is left out. Its error exceeds the optimum's by less than what that step would
 * have saved. O(n log n) for n candidates in all.
 *
 * `knapsack` is exact. With the slope λ of that step, any allocation has the error `bound + Σ excess + λ (budget - bytes)`, where the excess of a
 * candidate, error + λ bytes less the least of its linear, is never negative. So a candidate whose excess is more than the best known
 * allocation's distance from the bound is in no better one, and most linears keep one or two. Dynamic programming over these: partial allocations
 * that neither exceed the distance nor are beaten by another in both bytes and error (Dyer, Riha and Walker 1995; Pisinger 1995).
 * How many there are depends on the numbers, at most the distinct sums of bytes; 500 linears of 8 candidates take well below a second.
 * @module
 */
import { checkOneOf, LmqError } from '@lmq/tensor';

export interface AllocationCandidate {
  /** Tells the candidates of an item apart, and says which of a group's are the same. */
  label: string;
  /** Stored size. */
  bytes: number;
  /** What it costs in quality; not negative. Errors of all items are added. */
  error: number;
}

export interface AllocationItem {
  name: string;
  /** At least one; a choice that is fixed is the only one. */
  candidates: readonly AllocationCandidate[];
  /** Items of one group take candidates of one label: linears that a runtime fuses. Default: the item is by itself. */
  group?: string;
}

export const ALLOCATION_SOLVERS = ['knapsack', 'greedy'] as const;
export type AllocationSolver = (typeof ALLOCATION_SOLVERS)[number];

export interface AllocateOpts {
  items: readonly AllocationItem[];
  /** Bytes of all items together, at most. */
  budget: number;
  /** Default `knapsack`. */
  solver?: AllocationSolver;
}

export interface Allocation {
  /** Of each item, in their order. */
  choices: (AllocationCandidate & { name: string })[];
  bytes: number;
  /** Sum over the items. */
  error: number;
  /** No allocation within the budget has less error than this: the optimum of the linear relaxation. */
  bound: number;
}

/**
 * Chooses a candidate for every item.
 * @throws LmqError `argument/option` for a budget that is too small, saying the smallest; `argument/value` for numbers that are negative or not
 * finite, names or labels that come twice, items without candidates, and groups without a common label
 */
export function allocate({ items, budget, solver = 'knapsack' }: AllocateOpts): Allocation {
  checkOneOf(solver, 'solver', ALLOCATION_SOLVERS, 'allocate');
  const names = new Set<string>();
  for (const item of items) checkItem(item, names);
  const units = unitsOf(items);
  const smallest = units.reduce((sum, u) => sum + u.points[0]!.bytes, 0);
  if (!(budget >= smallest)) {
    throw new LmqError('argument/option', 'no allocation is as small as the budget', {
      op: 'allocate',
      expected: `at least ${smallest} bytes`,
      found: budget,
      hint: 'Allow more, or give smaller candidates.',
    });
  }
  const relaxed = relax(units, budget);
  const taken = solver === 'greedy' ? relaxed.taken : solve(units, budget, relaxed);
  const chosen = new Map(units.flatMap((u, i) => u.members.map((name) => [name, taken[i]!.label] as const)));
  const choices = items.map(({ name, candidates }) => ({ name, ...candidates.find((c) => c.label === chosen.get(name))! }));
  const sum = (of: 'bytes' | 'error') => choices.reduce((total, c) => total + c[of], 0);
  return { choices, bytes: sum('bytes'), error: sum('error'), bound: relaxed.bound };
}

/** Items that choose together, and what they can choose: by rising bytes, each with less error than all before. */
interface Unit {
  members: string[];
  points: AllocationCandidate[];
}

function checkItem({ name, candidates }: AllocationItem, names: Set<string>): void {
  const bad = (what: string, found: unknown) => new LmqError('argument/value', what, { op: 'allocate', tensor: name, found });
  if (names.has(name)) throw bad('two items have the same name', name);
  names.add(name);
  if (!candidates.length) throw bad('an item has no candidates', 0);
  const labels = new Set<string>();
  for (const { label, bytes, error } of candidates) {
    if (labels.has(label)) throw bad('two candidates have the same label', label);
    labels.add(label);
    if (!(bytes >= 0 && Number.isFinite(bytes))) throw bad(`the size of ${label} is no size`, bytes);
    if (!(error >= 0 && Number.isFinite(error))) throw bad(`the error of ${label} is no error`, error);
  }
}

function unitsOf(items: readonly AllocationItem[]): Unit[] {
  const groups = new Map<unknown, AllocationItem[]>();
  for (const item of items) {
    const key = item.group ?? item; // an object is no string
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups.values()].map((group) => {
    const sums = group[0]!.candidates.flatMap(({ label }) => {
      const same = group.map((item) => item.candidates.find((c) => c.label === label));
      if (same.some((c) => !c)) return [];
      return { label, bytes: same.reduce((n, c) => n + c!.bytes, 0), error: same.reduce((n, c) => n + c!.error, 0) };
    });
    if (!sums.length) {
      throw new LmqError('argument/value', 'items of a group have no candidate in common', {
        op: 'allocate',
        tensor: group[0]!.name,
        found: group[0]!.group,
      });
    }
    sums.sort((a, b) => a.bytes - b.bytes || a.error - b.error);
    const points: AllocationCandidate[] = [];
    for (const c of sums) if (!points.length || c.error < points.at(-1)!.error) points.push(c);
    return { members: group.map((item) => item.name), points };
  });
}

/** The points of a unit that lie on the lower convex hull. */
function hullOf(points: readonly AllocationCandidate[]): AllocationCandidate[] {
  const hull: AllocationCandidate[] = [];
  for (const c of points) {
    while (hull.length > 1 && slope(hull.at(-2)!, hull.at(-1)!) <= slope(hull.at(-2)!, c)) hull.pop();
    hull.push(c);
  }
  return hull;
}

/** Error saved for each byte more. */
const slope = (a: AllocationCandidate, b: AllocationCandidate) => (a.error - b.error) / (b.bytes - a.bytes);

interface Relaxed {
  /** Of each unit. */
  taken: AllocationCandidate[];
  bound: number;
  /** Slope of the first step that did not fit; 0 when all did. */
  lambda: number;
}

/** The linear relaxation, and the greedy allocation that it gives. */
function relax(units: readonly Unit[], budget: number): Relaxed {
  const taken = units.map((u) => u.points[0]!);
  const steps = units.flatMap(({ points }, unit) =>
    hullOf(points).flatMap((to, i, hull) => (i ? { unit, to, from: hull[i - 1]!, steep: slope(hull[i - 1]!, to) } : [])),
  );
  steps.sort((a, b) => b.steep - a.steep || a.unit - b.unit);
  let room = budget - taken.reduce((sum, c) => sum + c.bytes, 0);
  let bound = taken.reduce((sum, c) => sum + c.error, 0);
  let lambda = 0;
  let full = false;
  for (const { unit, from, to, steep } of steps) {
    if (taken[unit] !== from) continue; // a step before it did not fit
    const more = to.bytes - from.bytes;
    if (more <= room) {
      taken[unit] = to;
      room -= more;
      if (!full) bound -= from.error - to.error;
    } else if (!full) {
      full = true;
      lambda = steep;
      bound -= steep * room;
    }
  }
  return { taken, bound, lambda };
}

/** Candidates of some of the units. */
interface Partial {
  bytes: number;
  excess: number;
  last?: { choice: AllocationCandidate; before: Partial };
}

/** The best allocation there is. */
function solve(units: readonly Unit[], budget: number, { taken, lambda }: Relaxed): AllocationCandidate[] {
  const cost = (c: AllocationCandidate) => c.error + lambda * c.bytes;
  const options = units.map(({ points }, unit) => {
    const best = points.reduce((a, b) => (cost(b) < cost(a) ? b : a));
    const sorted = points.map((choice) => ({ choice, excess: cost(choice) - cost(best) })).sort((a, b) => a.excess - b.excess);
    return { unit, best, sorted, smallest: points[0]!.bytes };
  });
  options.sort((a, b) => (b.sorted[1]?.excess ?? Infinity) - (a.sorted[1]?.excess ?? Infinity)); // those that hardly branch come first
  const bytesOf = (choices: readonly AllocationCandidate[]) => choices.reduce((sum, c) => sum + c.bytes, 0);
  const excessOf = (choices: readonly AllocationCandidate[]) =>
    options.reduce((sum, { unit, best }) => sum + cost(choices[unit]!) - cost(best), 0);
  /** How far an allocation is from the bound. */
  const distance = (bytes: number, excess: number) => excess + lambda * (budget - bytes);
  let rest = options.reduce((sum, o) => sum + o.smallest, 0);
  let easy = options.reduce((sum, o) => sum + o.best.bytes, 0);
  let best: Partial | undefined; // completed by the best of the units that are left
  let least = distance(bytesOf(taken), excessOf(taken));
  const slack = 1e-12 * units.reduce((sum, u) => sum + u.points[0]!.error, 0); // rounding of the sums must not lose the optimum
  let states: Partial[] = [{ bytes: 0, excess: 0 }];
  for (const { best: own, sorted, smallest } of options) {
    rest -= smallest;
    easy -= own.bytes;
    const next: Partial[] = [];
    for (const before of states) {
      for (const { choice, excess } of sorted) {
        const state: Partial = { bytes: before.bytes + choice.bytes, excess: before.excess + excess, last: { choice, before } };
        if (state.excess > least + slack) break;
        if (state.bytes + rest > budget) continue;
        next.push(state);
        if (state.bytes + easy > budget) continue;
        const found = distance(state.bytes + easy, state.excess);
        if (found < least) [best, least] = [state, found];
      }
    }
    states = undominated(next, lambda);
  }
  if (!best) return taken;
  const choices = options.map((o) => o.best);
  let depth = 0;
  for (let at = best; at.last; at = at.last.before) depth++;
  for (let at = best; at.last; at = at.last.before) choices[--depth] = at.last.choice;
  const out = [...taken];
  for (const [i, { unit }] of options.entries()) out[unit] = choices[i]!;
  return out;
}

/** Those that no other has both fewer bytes and less error than. */
function undominated(states: Partial[], lambda: number): Partial[] {
  const error = (s: Partial) => s.excess - lambda * s.bytes; // up to what all have in common
  states.sort((a, b) => a.bytes - b.bytes || a.excess - b.excess);
  let least = Infinity;
  return states.filter((s) => {
    const e = error(s);
    if (e >= least) return false;
    least = e;
    return true;
  });
}
