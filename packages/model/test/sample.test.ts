import { describe, expect, it } from 'vitest';
import { argmax, candidates, createSampler } from '../src/index.js';

const logs = (...p: number[]) => Float32Array.from(p, Math.log);
const LOGITS = logs(0.1, 0.4, 0.2, 0.3);
const expectClose = (found: ArrayLike<number>, wanted: number[], tolerance: number) => {
  expect(found.length).toBe(wanted.length);
  for (const [i, x] of wanted.entries()) expect(Math.abs(found[i]! - x)).toBeLessThan(tolerance);
};

describe('candidates', () => {
  it('temperature 1 gives the softmax, most probable first', () => {
    const { ids, probabilities } = candidates(LOGITS, { temperature: 1 });
    expect(ids).toEqual([1, 3, 2, 0]);
    // float32 logarithms: 7 digits
    expectClose(probabilities, [0.4, 0.3, 0.2, 0.1], 1e-6);
  });

  it('a low temperature sharpens: p^2 at one half', () => {
    const { probabilities } = candidates(LOGITS, { temperature: 0.5 });
    expectClose(probabilities, [16 / 30, 9 / 30, 4 / 30, 1 / 30], 1e-6);
  });

  it('topK keeps the best, the lowest ids among equals', () => {
    expect(candidates(LOGITS, { temperature: 1, topK: 2 }).ids).toEqual([1, 3]);
    expect(candidates(Float32Array.of(1, 2, 2, 2), { temperature: 1, topK: 2 }).ids).toEqual([1, 2]);
    expect(candidates(LOGITS, { temperature: 1, topK: 9 }).ids.length).toBe(4);
    expect(candidates(LOGITS, { temperature: 1, topK: 2 }).probabilities[0]).toBeCloseTo(4 / 7, 6);
  });

  it('topP keeps the smallest set that reaches the sum', () => {
    const ids = (topP: number) => candidates(LOGITS, { temperature: 1, topP }).ids;
    expect(ids(0.39)).toEqual([1]);
    expect(ids(0.41)).toEqual([1, 3]);
    expect(ids(0.69)).toEqual([1, 3]);
    expect(ids(0.71)).toEqual([1, 3, 2]);
    expect(ids(1)).toEqual([1, 3, 2, 0]);
    expect(candidates(LOGITS, { temperature: 1, topK: 2, topP: 0.5 }).ids).toEqual([1]); // 4/7 reaches it after topK
  });

  it('temperature 0 is the argmax alone', () => {
    expect(candidates(LOGITS, {})).toEqual({ ids: [1], probabilities: Float64Array.of(1) });
  });

  it('a masked token is never a candidate; other numbers that are not finite are errors', () => {
    expect(candidates(Float32Array.of(0, -Infinity), { temperature: 1 }).ids).toEqual([0]);
    for (const bad of [Number.NaN, Infinity])
      expect(() => argmax(Float32Array.of(0, bad))).toThrow(expect.objectContaining({ code: 'argument/value' }));
  });

  it.each([[{ temperature: -1 }], [{ topP: 0 }], [{ topP: 1.1 }], [{ topK: -1 }], [{ topK: 1.5 }], [{ temperature: Number.NaN }]])(
    'refuses %o',
    (opts) => {
      expect(() => createSampler(opts)).toThrow(expect.objectContaining({ code: 'argument/option' }));
    },
  );
});

describe('createSampler', () => {
  it('draws with the probabilities of the softmax', () => {
    const sample = createSampler({ temperature: 1, seed: 5 });
    const counts = [0, 0, 0, 0];
    const n = 20000;
    for (let i = 0; i < n; i++) counts[sample(LOGITS)]!++;
    // 5 standard deviations of a binomial: sqrt(0.25 / n) at most
    expectClose(
      counts.map((c) => c / n),
      [0.1, 0.4, 0.2, 0.3],
      5 * Math.sqrt(0.25 / n),
    );
  });

  it('repeats itself for a seed, and not for another', () => {
    const draw = (seed: number) => {
      const sample = createSampler({ temperature: 1, seed });
      return Array.from({ length: 40 }, () => sample(LOGITS));
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  it('greedy takes the lowest of equals', () => {
    expect(createSampler()(Float32Array.of(1, 3, 3))).toBe(1);
  });
});
