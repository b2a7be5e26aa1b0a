import { decodeInts, encodeInts, INT_TRAITS, type IntFormat } from '@lmq/formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { thrown } from './_thrown.js';

const FORMATS = Object.keys(INT_TRAITS) as IntFormat[];

describe('integer formats', () => {
  it('have the ranges of two', () => {
    for (let bits = 2; bits <= 8; bits++) {
      expect(INT_TRAITS[`int${bits}` as IntFormat]).toMatchObject({ bits, min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 });
      expect(INT_TRAITS[`uint${bits}` as IntFormat]).toMatchObject({ bits, min: 0, max: 2 ** bits - 1 });
    }
    expect(FORMATS).toHaveLength(14);
  });

  it.each(FORMATS)('%s: every code round-trips, ordered and distinct', (format) => {
    const { bits, min, max } = INT_TRAITS[format];
    const codes = Uint8Array.from({ length: 2 ** bits }, (_, i) => i);
    const values = decodeInts(format, codes);
    expect(encodeInts(format, values)).toEqual(codes);
    expect([...values].sort((a, b) => a - b)).toEqual(Array.from({ length: 2 ** bits }, (_, i) => min + i));
    expect(Math.max(...values)).toBe(max);
  });

  it('are two’s complement', () => {
    expect([...encodeInts('int4', Float32Array.of(-1, -8, 7, 0))]).toEqual([15, 8, 7, 0]);
    expect([...encodeInts('int8', Float32Array.of(-1, -128, 127))]).toEqual([255, 128, 127]);
    expect([...decodeInts('int4', Uint8Array.of(0xf8))]).toEqual([-8]); // upper bits are ignored
    expect([...decodeInts('uint4', Uint8Array.of(0xf8))]).toEqual([8]);
  });

  it('round as asked, then saturate', () => {
    const x = Float32Array.of(2.5, -2.5, -1.5, 300, -300, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    const values = (rounding?: 'even' | 'away' | 'halfUp') => [...decodeInts('int8', encodeInts('int8', x, { rounding }))];
    expect(values()).toEqual([2, -2, -2, 127, -128, 127, -128]);
    expect(values('away')).toEqual([3, -3, -2, 127, -128, 127, -128]);
    expect(values('halfUp')).toEqual([3, -2, -1, 127, -128, 127, -128]);
    expect([...encodeInts('uint4', Float32Array.of(-3, 15.5, 16))]).toEqual([0, 15, 15]);
  });

  it('err by at most a half in range', () => {
    fc.assert(
      fc.property(fc.constantFrom(...FORMATS), fc.float({ min: -300, max: 300, noNaN: true }), (format, x) => {
        const { min, max } = INT_TRAITS[format];
        const [back] = decodeInts(format, encodeInts(format, Float32Array.of(x)));
        expect(Math.abs(back - Math.min(max, Math.max(min, x)))).toBeLessThanOrEqual(0.5);
      }),
    );
  });

  it('refuse NaN and unknown names', () => {
    const e = thrown(() => encodeInts('int4', Float32Array.of(1, Number.NaN)));
    expect(e.code).toBe('argument/value');
    expect(e.message).toContain('element 1');
    expect(thrown(() => encodeInts('int9' as IntFormat, new Float32Array(1))).code).toBe('argument/option');
    expect(thrown(() => encodeInts('int4', new Float32Array(1), { rounding: 'up' as 'even' })).code).toBe('argument/option');
    expect(thrown(() => decodeInts('int4', new Uint8Array(2), new Float32Array(1))).code).toBe('argument/shape');
  });
});
