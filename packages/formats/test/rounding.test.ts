import { rint, roundAway, truncHalfUp } from '@lmq/formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('roundings', () => {
  it.each([
    // x, rint, roundAway, truncHalfUp
    [0.5, 0, 1, 1],
    [1.5, 2, 2, 2],
    [2.5, 2, 3, 3],
    [-0.5, -0, -1, 0],
    [-1.5, -2, -2, -1],
    [-2.5, -2, -3, -2],
    [0.49999999999999994, 0, 0, 1], // the sum x + 0.5 rounds to 1 in double
    [-0.2, -0, -0, 0],
    [-0, -0, -0, 0],
    [7.3, 7, 7, 7],
    [4503599627370495.5, 4503599627370496, 4503599627370496, 4503599627370496],
    [4503599627370497, 4503599627370497, 4503599627370497, 4503599627370498],
    [2251799813685248.5, 2251799813685248, 2251799813685249, 2251799813685249],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY],
    [Number.NaN, Number.NaN, Number.NaN, Number.NaN],
  ])('%d', (x, even, away, up) => {
    expect(Object.is(rint(x), even)).toBe(true);
    expect(Object.is(roundAway(x), away)).toBe(true);
    expect(truncHalfUp(x) === up || (Number.isNaN(up) && Number.isNaN(truncHalfUp(x)))).toBe(true);
  });

  it('none is Math.round', () => {
    expect(rint(2.5)).not.toBe(Math.round(2.5));
    expect(roundAway(-2.5)).not.toBe(Math.round(-2.5));
    expect(truncHalfUp(-2.7)).not.toBe(Math.round(-2.7));
  });

  it('rint and roundAway give a nearest integer, odd functions both', () => {
    fc.assert(
      fc.property(fc.double({ min: -(2 ** 51), max: 2 ** 51, noNaN: true }), (x) => {
        for (const round of [rint, roundAway]) {
          const r = round(x);
          expect(Number.isInteger(r)).toBe(true);
          expect(Math.abs(x - r)).toBeLessThanOrEqual(0.5);
          expect(round(-x)).toBe(-r);
        }
        if (Math.abs(x - Math.trunc(x)) === 0.5) expect(Math.abs(rint(x) % 2)).toBe(0);
      }),
    );
  });
});
