import { createRng, isLmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import golden from './golden/rng.json' with { type: 'json' };

describe('createRng', () => {
  it.each(golden)('gives the reference numbers for seed $seed', ({ seed, u32, uniform, below10, belowBig }) => {
    const draw = (n: number, f: () => number) => Array.from({ length: n }, f);
    const words = createRng(seed);
    expect(draw(8, words.u32)).toEqual(u32);
    const reals = createRng(seed);
    expect(draw(4, reals.uniform)).toEqual(uniform);
    const small = createRng(seed);
    expect(draw(8, () => small.below(10))).toEqual(below10);
    const big = createRng(seed); // a quarter of the draws is rejected
    expect(draw(8, () => big.below(3 * 2 ** 30))).toEqual(belowBig);
  });

  it('has seed 0 by default and gives different streams to different seeds', () => {
    expect(createRng().u32()).toBe(createRng(0).u32());
    expect(new Set(Array.from({ length: 1000 }, (_, seed) => createRng(seed).u32())).size).toBe(1000);
  });

  it('is uniform: mean, variance and tenths', () => {
    const rng = createRng(5);
    const n = 100_000;
    const tenths = new Array<number>(10).fill(0);
    let sum = 0;
    let squares = 0;
    let outside = 0;
    for (let i = 0; i < n; i++) {
      const x = rng.uniform();
      if (!(x >= 0 && x < 1)) outside++;
      sum += x;
      squares += x * x;
      tenths[Math.floor(x * 10)]!++;
    }
    expect(outside).toBe(0);
    // The seed is fixed, so this cannot flake; 5 standard deviations: 1 / sqrt(12 n) for the mean, sqrt(0.09 n) for a tenth.
    expect(Math.abs(sum / n - 0.5)).toBeLessThan(5 / Math.sqrt(12 * n));
    expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n));
    for (const count of tenths) expect(Math.abs(count - n / 10)).toBeLessThan(5 * Math.sqrt(0.09 * n));
  });

  it('normal has mean 0, variance 1 and kurtosis 3', () => {
    const rng = createRng(6);
    const n = 100_000;
    const moments = [0, 0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const x = rng.normal();
      for (let p = 1; p <= 4; p++) moments[p]! += x ** p / n;
    }
    // Standard deviations of the sample moments: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n); five of each.
    expect(Math.abs(moments[1]!)).toBeLessThan(5 * Math.sqrt(1 / n));
    expect(Math.abs(moments[2]! - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(moments[3]!)).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(moments[4]! - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
  });

  it('below stays below, reaches every value, and refuses what has no answer', () => {
    const rng = createRng(7);
    const seen = new Set<number>();
    for (let i = 0; i < 500; i++) seen.add(rng.below(7));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(rng.below(1)).toBe(0);
    expect(rng.below(2 ** 32)).toBeLessThan(2 ** 32);
    for (const n of [0, -1, 1.5, Number.NaN, 2 ** 32 + 1]) {
      try {
        rng.below(n);
        expect.fail(`below(${n}) returned`);
      } catch (e) {
        expect(isLmqError(e) && e.code).toBe('argument/option');
      }
    }
  });

  it('shuffle permutes in place, and every order of three comes up', () => {
    const rng = createRng(8);
    const orders = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const items = ['a', 'b', 'c'];
      expect(rng.shuffle(items)).toBe(items);
      orders.set(items.join(''), (orders.get(items.join('')) ?? 0) + 1);
    }
    expect(orders.size).toBe(6);
    for (const count of orders.values()) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt((6000 * 5) / 36));
  });
});
