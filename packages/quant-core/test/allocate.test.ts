import { createRng, isLmqError } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AllocationItem, allocate } from '../src/allocate.js';

const candidate = fc.record({ label: fc.constantFrom('2', '3', '4', '8'), bytes: fc.integer({ min: 0, max: 30 }), error: fc.nat(40) });
const candidates = fc.uniqueArray(candidate, { minLength: 2, maxLength: 4, selector: (c) => c.label });
const itemsOf = (group: fc.Arbitrary<string | undefined>): fc.Arbitrary<AllocationItem[]> =>
  fc
    .array(fc.record({ candidates, group }), { minLength: 2, maxLength: 6 })
    .map((all) => all.map(({ candidates, group }, i) => ({ name: `${i}`, candidates, ...(group !== undefined && { group }) })));

/** The least error of all allocations, and the fewest bytes of any. */
function everyAllocation(items: readonly AllocationItem[], budget: number) {
  let error = Infinity;
  let fewest = Infinity;
  const visit = (i: number, bytes: number, sum: number, groups: Readonly<Record<string, string>>) => {
    if (i === items.length) {
      fewest = Math.min(fewest, bytes);
      if (bytes <= budget) error = Math.min(error, sum);
      return;
    }
    const { group } = items[i]!;
    for (const c of items[i]!.candidates) {
      if (group !== undefined && groups[group] !== undefined && groups[group] !== c.label) continue;
      visit(i + 1, bytes + c.bytes, sum + c.error, group === undefined ? groups : { ...groups, [group]: c.label });
    }
  };
  visit(0, 0, 0, {});
  return { error, fewest };
}

describe('allocate', () => {
  const groups = fc.constantFrom(undefined, undefined, 'a', 'b');
  it('knapsack finds what trying everything finds; greedy stays within the budget and the bound below both', () => {
    let feasible = 0;
    let better = 0;
    fc.assert(
      fc.property(itemsOf(groups), fc.integer({ min: 5, max: 80 }), (items, budget) => {
        const { error, fewest } = everyAllocation(items, budget);
        if (fewest > budget) {
          expect(() => allocate({ items, budget })).toThrow(fewest === Infinity ? 'no candidate in common' : `at least ${fewest} bytes`);
          return;
        }
        feasible++;
        const exact = allocate({ items, budget });
        const greedy = allocate({ items, budget, solver: 'greedy' });
        expect(exact.error).toBe(error);
        if (greedy.error > error) better++;
        for (const a of [exact, greedy]) {
          expect(a.bytes).toBeLessThanOrEqual(budget);
          expect(a.error).toBeGreaterThanOrEqual(error);
          expect(a.bound).toBeLessThanOrEqual(error + 1e-9);
          expect(a.choices.map((c) => c.name)).toEqual(items.map((i) => i.name));
          expect(a.bytes).toBe(a.choices.reduce((n, c) => n + c.bytes, 0));
          for (const group of ['a', 'b']) {
            const labels = new Set(a.choices.flatMap((c, i) => (items[i]!.group === group ? c.label : [])));
            expect(labels.size).toBeLessThanOrEqual(1);
          }
        }
      }),
      { numRuns: 1500, seed: 1 },
    );
    expect(feasible).toBeGreaterThan(500);
    expect(better).toBeGreaterThan(10); // the two differ often enough to tell them apart
  });

  it('greedy exceeds the bound by less than what the first step that did not fit would have saved', () => {
    fc.assert(
      fc.property(itemsOf(fc.constant(undefined)), fc.integer({ min: 0, max: 180 }), (items, budget) => {
        const fewest = items.reduce((n, i) => n + Math.min(...i.candidates.map((c) => c.bytes)), 0);
        fc.pre(fewest <= budget);
        const { error, bound } = allocate({ items, budget, solver: 'greedy' });
        const most = Math.max(
          ...items.map((i) => Math.max(...i.candidates.map((c) => c.error)) - Math.min(...i.candidates.map((c) => c.error))),
        );
        expect(error - bound).toBeLessThanOrEqual(most + 1e-9);
      }),
      { numRuns: 500, seed: 1 },
    );
  });

  it('500 linears of 8 candidates with errors as they fall with bits, of odd sizes: exact, in 0.1 s', () => {
    const rng = createRng(3);
    const items = Array.from({ length: 500 }, (_, i): AllocationItem => {
      const weights = 10_000 + Math.floor(rng.uniform() * 1e6);
      const sensitivity = Math.exp(2 * rng.normal());
      const candidates = [2, 3, 4, 5, 6, 7, 8, 16].map((bits) => ({
        label: `${bits}`,
        bytes: Math.ceil((weights * bits) / 8) + Math.floor(rng.uniform() * 100),
        error: bits === 16 ? 0 : sensitivity * 4 ** -bits * (0.8 + 0.4 * rng.uniform()),
      }));
      return { name: `${i}`, candidates };
    });
    const smallest = items.reduce((n, i) => n + i.candidates[0]!.bytes, 0);
    const budget = Math.floor(smallest * 1.6);
    const exact = allocate({ items, budget });
    const greedy = allocate({ items, budget, solver: 'greedy' });
    expect(exact.bytes).toBeLessThanOrEqual(budget);
    expect(exact.bound).toBeLessThanOrEqual(exact.error);
    expect(exact.error).toBeLessThan(greedy.error);
    expect(exact.error / exact.bound - 1).toBeLessThan(1e-4);
  });

  it('60 linears: what dynamic programming over every number of bytes finds', () => {
    const rng = createRng(4);
    for (let round = 0; round < 20; round++) {
      const items = Array.from({ length: 60 }, (_, i): AllocationItem => {
        const candidates = Array.from({ length: 5 }, (_, c) => ({
          label: `${c}`,
          bytes: 1 + Math.floor(rng.uniform() * 40),
          error: Math.floor(rng.uniform() * 1000),
        }));
        return { name: `${i}`, candidates };
      });
      const budget = 500 + 60 * round;
      let least = new Float64Array(budget + 1); // by the most bytes
      for (const { candidates } of items) {
        const next = new Float64Array(budget + 1).fill(Infinity);
        for (const { bytes, error } of candidates)
          for (let b = bytes; b <= budget; b++) next[b] = Math.min(next[b]!, least[b - bytes]! + error);
        least = next;
      }
      expect(allocate({ items, budget }).error).toBe(least[budget]);
    }
  });

  it('a fixed choice binds its group', () => {
    const free = [
      { label: '3', bytes: 3, error: 9 },
      { label: '8', bytes: 8, error: 0 },
    ];
    const items = [
      { name: 'q', candidates: free, group: 'qkv' },
      { name: 'k', candidates: free.slice(0, 1), group: 'qkv' },
      { name: 'o', candidates: free },
    ];
    expect(allocate({ items, budget: 100 }).choices.map((c) => c.label)).toEqual(['3', '3', '8']);
  });

  it('refuses what is no table', () => {
    const one = { label: '4', bytes: 1, error: 1 };
    const problem = (items: AllocationItem[]) => {
      try {
        allocate({ items, budget: 10 });
      } catch (e) {
        return isLmqError(e) && e.code === 'argument/value' ? e.message : 'another error';
      }
      return 'nothing was thrown';
    };
    expect(problem([{ name: 'a', candidates: [] }])).toContain('no candidates');
    expect(problem([{ name: 'a', candidates: [one, one] }])).toContain('the same label');
    expect(problem([{ name: 'a', candidates: [{ ...one, error: Number.NaN }] }])).toContain('no error');
    expect(problem([{ name: 'a', candidates: [{ ...one, error: -1 }] }])).toContain('no error');
    expect(problem([{ name: 'a', candidates: [{ ...one, bytes: Infinity }] }])).toContain('no size');
    const a = { name: 'a', candidates: [one] };
    expect(problem([a, a])).toContain('the same name');
  });
});
