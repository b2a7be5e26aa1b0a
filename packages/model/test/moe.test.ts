import { describe, expect, it } from 'vitest';
import { chooseExperts } from '../src/index.js';

describe('chooseExperts', () => {
  it('takes the most probable, normalised to sum 1', () => {
    const { top, factors } = chooseExperts(Float32Array.of(0.125, 0.5, 0.25, 0.125), 4, 2);
    expect([...top]).toEqual([1, 2]);
    expect([...factors]).toEqual([2 / 3, 1 / 3]);
  });
  it('equal probabilities go to the lower index', () => {
    expect([...chooseExperts(Float32Array.of(0.25, 0.25, 0.25, 0.25, 0, 0.5, 0.5, 0), 4, 3).top]).toEqual([0, 1, 2, 1, 2, 0]);
  });
  it('takes all of them when k is their number', () => {
    const { top, factors } = chooseExperts(Float32Array.of(0.25, 0.75), 2, 2);
    expect([[...top], [...factors]]).toEqual([
      [1, 0],
      [0.75, 0.25],
    ]);
  });
  it('refuses probabilities that are not numbers', () => {
    expect(() => chooseExperts(Float32Array.of(0.5, 0.5, Number.NaN, Number.NaN), 2, 2)).toThrow(/token 1/);
  });
});
