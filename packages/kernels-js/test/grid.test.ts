import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gridCode, gridValue } from '../src/_grid.js';

/** Round half to even, by comparison. */
function halfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

const float = fc.float({ noNaN: true, noDefaultInfinity: true });
const zero = fc.integer({ min: 0, max: 255 });

describe('the affine grid', () => {
  it('is clamp(round_half_even(w / scale) + zero) for any float32', () => {
    fc.assert(
      fc.property(float, float, zero, (w, scale, zeroPoint) => {
        const quotient = scale === 0 ? 0 : Math.fround(w / scale);
        const want = Number.isFinite(quotient) ? halfEven(quotient) + zeroPoint : quotient;
        expect(gridCode(w, scale, zeroPoint, 255)).toBe(Math.min(Math.max(want, 0), 255));
      }),
      { numRuns: 5000 },
    );
  });

  it('rounds every quarter step near zero', () => {
    for (let q = -40; q <= 40; q++) expect(gridCode(q / 4, 1, 20, 255)).toBe(halfEven(q / 4) + 20);
  });

  it('divides in float32: a quotient that rounds to a tie goes to even', () => {
    // Not ties as real numbers: 1.49999994, 2.50000006, 3.49999994.
    expect(gridCode(12582913, 8388609, 0, 255)).toBe(2);
    expect(gridCode(20971528, 8388611, 0, 255)).toBe(2);
    expect(gridCode(29360138, 8388611, 0, 255)).toBe(4);
  });

  it('is within half a step inside the grid', () => {
    fc.assert(
      fc.property(fc.float({ min: -7, max: 7, noNaN: true }), fc.float({ min: 0.0625, max: 1000, noNaN: true }), (t, scale) => {
        const w = Math.fround(t * scale);
        const value = gridValue(gridCode(w, scale, 8, 15), scale, 8);
        // Half a step, plus the rounding of the quotient and of the value: 2^-24 of 8 steps each.
        expect(Math.abs(w - value)).toBeLessThanOrEqual(scale * (0.5 + 2 ** -20));
      }),
    );
  });

  it('a scale of 0 takes the zero point whatever the weight, a NaN weight takes code 0', () => {
    for (const w of [0, 1, -1e30, Number.POSITIVE_INFINITY, Number.NaN]) {
      expect(gridCode(w, 0, 3, 7)).toBe(3);
      expect(gridValue(3, 0, 3)).toBe(0);
    }
    expect(gridCode(Number.NaN, 1, 3, 7)).toBe(0);
    expect(gridCode(Number.POSITIVE_INFINITY, 1, 3, 7)).toBe(7);
    expect(gridCode(Number.NEGATIVE_INFINITY, 1, 3, 7)).toBe(0);
  });
});
