import { describe, expect, it } from 'vitest';
import { ropeFrequencies } from '../src/index.js';

/** Numbers whose frequencies lie far apart: 1, 1/10, 1/100, 1/1000. */
const THETA = 1e4;
const ROTARY = 8;
const frequencies = (scaling: Parameters<typeof ropeFrequencies>[0]['scaling']) => [
  ...ropeFrequencies({ theta: THETA, scaling }, ROTARY).frequencies,
];
const close = (found: number[], expected: number[]) => {
  expect(found.length).toBe(expected.length);
  for (const [i, f] of found.entries()) expect(f / expected[i]!).toBeCloseTo(1, 12); // double, a few roundings
};

describe('ropeFrequencies', () => {
  it('plain: powers of theta', () => close(frequencies(undefined), [1, 0.1, 0.01, 0.001]));

  it('linear: all divided', () => close(frequencies({ type: 'linear', factor: 4 }), [0.25, 0.025, 0.0025, 0.00025]));

  it('llama3: keeps short wavelengths, divides long ones, blends between', () => {
    // within 2π * 100 positions the pairs turn 100, 10, 1, 0.1 times: above 20, between, between, below 0.5
    const scaled = frequencies({ type: 'llama3', factor: 8, lowFrequency: 0.5, highFrequency: 20, originalContext: 200 * Math.PI });
    const blend = (turns: number) => (turns - 0.5) / 19.5;
    close(scaled, [1, 0.1 * (blend(10) + (1 - blend(10)) / 8), 0.01 * (blend(1) + (1 - blend(1)) / 8), 0.001 / 8]);
  });

  it('yarn: a ramp over the index', () => {
    const yarn = {
      type: 'yarn',
      factor: 4,
      originalContext: 200 * Math.PI,
      betaFast: 100,
      betaSlow: 0.1,
      truncate: false,
      magnitude: 1,
    } as const;
    // 100 turns: index 0; 0.1 turns: index 3. So a third more of every next frequency is divided.
    close(frequencies(yarn), [1, 0.1 * (2 / 3 + 1 / 12), 0.01 * (1 / 3 + 2 / 12), 0.001 / 4]);
    // between 10 and 10 turns: a step at index 1, which is itself kept
    close(frequencies({ ...yarn, betaFast: 10, betaSlow: 10 }), [1, 0.1, 0.01 / 4, 0.001 / 4]);
    expect(ropeFrequencies({ theta: THETA, scaling: { ...yarn, magnitude: 1.25 } }, ROTARY).magnitude).toBe(1.25);
    expect(ropeFrequencies({ theta: THETA }, ROTARY).magnitude).toBe(1);
  });

  it('refuses numbers that give no frequencies', () => {
    const scaling = { type: 'linear', factor: 0 } as const;
    expect(() => ropeFrequencies({ theta: THETA, scaling }, ROTARY)).toThrow(expect.objectContaining({ code: 'model/config' }));
    expect(() => ropeFrequencies({ theta: Number.NaN }, ROTARY)).toThrow(expect.objectContaining({ code: 'model/config' }));
  });
});
