import { kmeans1d } from '@lmq/quant-core';
import { isLmqError } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { floats, golden } from './_tables.js';

/** Σ weight · (number - nearest centre)². */
function inertia(values: ArrayLike<number>, weights: ArrayLike<number>, centres: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    let least = Number.POSITIVE_INFINITY;
    for (let c = 0; c < centres.length; c++) least = Math.min(least, (values[i]! - centres[c]!) ** 2);
    sum += weights[i]! * least;
  }
  return sum;
}

/** Every way to cut the sorted numbers into at most k runs. */
function bruteForce(values: number[], weights: number[], k: number): number {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const run = (from: number, to: number): number => {
    const part = order.slice(from, to);
    const mass = part.reduce((s, i) => s + weights[i]!, 0);
    const mean = mass ? part.reduce((s, i) => s + weights[i]! * values[i]!, 0) / mass : 0;
    return part.reduce((s, i) => s + weights[i]! * (values[i]! - mean) ** 2, 0);
  };
  const best = (from: number, left: number): number => {
    if (from === order.length) return 0;
    if (left === 1) return run(from, order.length);
    let least = Number.POSITIVE_INFINITY;
    for (let to = from + 1; to <= order.length; to++) least = Math.min(least, run(from, to) + best(to, left - 1));
    return least;
  };
  return best(0, k);
}

describe('kmeans1d', () => {
  it.each(golden.kmeans)('$k clusters: never worse than scikit-learn', ({ k, values, weights, inertia: want }) => {
    const [x, w] = [floats(values), floats(weights)];
    const centres = kmeans1d(x, w, k);
    expect(centres.length).toBe(k);
    expect(inertia(x, w, centres)).toBeLessThanOrEqual(want * (1 + 1e-12));
  });

  it('is at least once better than scikit-learn, by more than rounding', () => {
    const better = golden.kmeans.filter(({ k, values, weights, inertia: want }) => {
      const [x, w] = [floats(values), floats(weights)];
      return inertia(x, w, kmeans1d(x, w, k)) < want * 0.999;
    });
    expect(better.length).toBeGreaterThan(0);
  });

  it('reaches the least of all partitions', () => {
    const number = fc.oneof(fc.integer({ min: -4, max: 4 }), fc.double({ min: -10, max: 10, noNaN: true })).map(Math.fround);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(number, fc.oneof(fc.constant(0), fc.double({ min: 0.01, max: 5, noNaN: true }))), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        (pairs, k) => {
          const values = pairs.map(([x]) => x);
          const weights = pairs.every(([, w]) => w === 0) ? pairs.map(() => 1) : pairs.map(([, w]) => w);
          const got = inertia(values, weights, kmeans1d(Float32Array.from(values), weights, k));
          expect(got).toBeLessThanOrEqual(bruteForce(values, weights, k) * (1 + 1e-9) + 1e-11);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('gives the numbers themselves where there are few of them', () => {
    expect([...kmeans1d(Float32Array.of(3, 1, 3, -0, 0, 2), [1, 1, 1, 1, 1, 0], 4)]).toEqual([0, 1, 3]);
    expect([...kmeans1d(Float32Array.of(3, 1), [0, 0], 4)]).toEqual([1, 3]);
  });

  it('keeps its precision far from zero', () => {
    const x = Float32Array.from({ length: 64 }, (_, i) => 1000 + (i % 4) + 0.001 * (i >> 2));
    const centres = kmeans1d(x, new Float32Array(64).fill(1e-12), 4);
    [...centres].forEach((c, i) => void expect(c).toBeCloseTo(1000 + i + 0.0075, 3));
  });

  it.each<[string, () => unknown, string]>([
    ['no clusters', () => kmeans1d(Float32Array.of(1), [1], 0), 'argument/option'],
    ['no numbers', () => kmeans1d(new Float32Array(), [], 2), 'argument/shape'],
    ['other weights', () => kmeans1d(Float32Array.of(1, 2), [1], 2), 'argument/shape'],
    ['a negative weight', () => kmeans1d(Float32Array.of(1, 2), [1, -1], 2), 'argument/value'],
    ['a NaN', () => kmeans1d(Float32Array.of(1, Number.NaN), [1, 1], 2), 'argument/value'],
  ])('refuses %s', (_, run, code) => {
    let found: unknown;
    try {
      run();
    } catch (e) {
      found = e;
    }
    expect(isLmqError(found) && found.code).toBe(code);
  });
});
