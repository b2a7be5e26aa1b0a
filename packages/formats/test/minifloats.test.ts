import {
  decodeMinifloats,
  e8m0ToFloat,
  encodeMinifloats,
  FLOAT_TRAITS,
  floatToFp4e2m1,
  floatToFp6e2m3,
  floatToFp6e3m2,
  floatToFp8e4m3,
  floatToFp8e5m2,
  floorToE8m0,
  fp4e2m1ToFloat,
  fp6e2m3ToFloat,
  fp6e3m2ToFloat,
  fp8e4m3ToFloat,
  fp8e5m2ToFloat,
  MINIFLOAT_FORMATS,
  minifloatValues,
} from '@lmq/formats';
import { createRng, type MinifloatFormat } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { naiveFloat, nearestOracle } from './_bits.js';
import { anything, fnv, golden, next } from './_golden.js';
import { thrown } from './_thrown.js';

const ONE: Record<MinifloatFormat, [toFloat: (code: number) => number, fromFloat: (x: number, opts?: { saturate?: boolean }) => number]> = {
  fp8e4m3: [fp8e4m3ToFloat, floatToFp8e4m3],
  fp8e5m2: [fp8e5m2ToFloat, floatToFp8e5m2],
  fp6e2m3: [fp6e2m3ToFloat, floatToFp6e2m3],
  fp6e3m2: [fp6e3m2ToFloat, floatToFp6e3m2],
  fp4e2m1: [fp4e2m1ToFloat, floatToFp4e2m1],
};
/** Largest number and its code; what follows it: NaN, infinity or nothing. */
const TOP: Record<MinifloatFormat, [max: number, code: number, beyond: number]> = {
  fp8e4m3: [448, 0x7e, 0x7f],
  fp8e5m2: [57344, 0x7b, 0x7c],
  fp6e2m3: [7.5, 0x1f, 0x1f],
  fp6e3m2: [28, 0x1f, 0x1f],
  fp4e2m1: [6, 7, 7],
};

it('covers every format', () => {
  expect([...MINIFLOAT_FORMATS].sort()).toEqual(Object.keys(ONE).sort());
});

describe.each(Object.keys(ONE) as MinifloatFormat[])('%s, all codes', (format) => {
  const [toFloat, fromFloat] = ONE[format];
  const [max, top, beyond] = TOP[format];
  const { bits, minNormal, minSubnormal, max: traitMax } = FLOAT_TRAITS[format];
  const all = Uint8Array.from({ length: 2 ** bits }, (_, i) => i);
  const sign = 2 ** (bits - 1);
  const nearest = nearestOracle(format);

  it('decode to their definition and to what ml_dtypes says, alone and in arrays', () => {
    const values = decodeMinifloats(format, all);
    for (const code of all) {
      expect(toFloat(code)).toBe(naiveFloat(code, format));
      expect(values[code]).toBe(naiveFloat(code, format));
      const theirs = golden.floats[format].values[code];
      expect(toFloat(code)).toBe(
        { inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY, nan: Number.NaN }[theirs as string] ?? theirs,
      );
    }
    expect(minifloatValues(format)).toEqual(values);
  });

  it('round-trip', () => {
    const numbers = all.filter((code) => !Number.isNaN(toFloat(code)));
    const values = decodeMinifloats(format, numbers);
    expect(encodeMinifloats(format, values, { saturate: false })).toEqual(numbers);
    numbers.forEach((code, i) => {
      expect(fromFloat(values[i]!, { saturate: false })).toBe(code);
    });
  });

  it('have the range of the traits', () => {
    expect([max, toFloat(top)]).toEqual([traitMax, traitMax]);
    expect(toFloat(1)).toBe(minSubnormal);
    const normal = [...all].find((code) => toFloat(code) >= minNormal)!;
    expect(toFloat(normal)).toBe(minNormal);
    expect(toFloat(normal - 1)).toBe(minNormal - minSubnormal);
  });

  it('round at every midpoint to even, and beside it to the nearer', () => {
    for (let code = 0; code < top; code++) {
      const middle = (toFloat(code) + toFloat(code + 1)) / 2;
      const even = code % 2 === 0 ? code : code + 1;
      for (const [x, want] of [
        [middle, even],
        [middle * (1 - 2 ** -40), code],
        [middle * (1 + 2 ** -40), code + 1],
      ]) {
        expect(fromFloat(x!)).toBe(want);
        expect(fromFloat(-x!)).toBe(want! | sign);
      }
      const around = Float32Array.of(next(middle, false), middle, next(middle, true));
      expect([...encodeMinifloats(format, around)]).toEqual([code, even, code + 1]);
    }
  });

  it('beyond the largest number: that number, or what the format has there', () => {
    const last = naiveFloat(top, format) - naiveFloat(top - 1, format);
    const half = max + last / 2; // a tie: up only where the code above is even
    const up = top % 2 ? beyond : top;
    for (const [x, sharp] of [
      [half * (1 - 2 ** -30), top],
      [half, up],
      [half * (1 + 2 ** -30), beyond],
      [1e30, beyond],
      [Number.MAX_VALUE, beyond],
      [Number.POSITIVE_INFINITY, beyond],
    ]) {
      expect(fromFloat(x!)).toBe(top);
      expect(fromFloat(-x!)).toBe(top | sign);
      expect(fromFloat(x!, { saturate: false })).toBe(sharp);
      expect(fromFloat(-x!, { saturate: false })).toBe(sharp! | sign);
      const array = Float32Array.of(Math.fround(x!), -Math.fround(x!));
      expect([...encodeMinifloats(format, array)]).toEqual([top, top | sign]);
    }
  });

  it('keep NaN, or refuse it', () => {
    const nan = new Float32Array(Uint32Array.of(0x7fc00000, 0xffc00000, 0x7f800001, 0x7fffffff).buffer);
    if (bits < 8) {
      const e = thrown(() => encodeMinifloats(format, Float32Array.of(0, Number.NaN)));
      expect(e.code).toBe('argument/value');
      expect(e.message).toContain('element 1');
      expect(thrown(() => fromFloat(Number.NaN)).code).toBe('argument/value');
      return;
    }
    for (const saturate of [true, false]) {
      const codes = [...encodeMinifloats(format, nan, { saturate })];
      expect(codes).toEqual(format === 'fp8e4m3' ? [0x7f, 0xff, 0x7f, 0x7f] : [0x7e, 0xfe, 0x7e, 0x7f]);
      expect(toFloat(fromFloat(Number.NaN, { saturate }))).toBeNaN();
    }
  });

  it('agree with a search of all values on random numbers', () => {
    const rng = createRng(bits * 10 + FLOAT_TRAITS[format].fractionBits);
    const x = Float32Array.from({ length: 50_000 }, () => rng.normal() * 2 ** (rng.below(44) - 24));
    const arrays = encodeMinifloats(format, x, { saturate: false });
    x.forEach((v, i) => {
      const want = nearest(v);
      if (arrays[i] !== want || fromFloat(v, { saturate: false }) !== want) expect.fail(`${v}: ${arrays[i]}, not ${want}`);
    });
    for (let i = 0; i < 20_000; i++) {
      const v = rng.normal() * 2 ** (rng.below(20) - 12); // doubles that float32 would round first
      if (Math.abs(v) <= max && fromFloat(v) !== nearest(v)) expect.fail(`${v}`);
    }
  });

  it('is what ml_dtypes and, saturating, PyTorch make of 40,000 floats of all sizes', () => {
    const x = anything(1, 40_000);
    expect(fnv(encodeMinifloats(format, x, { saturate: false }))).toBe(golden.floats[format].beyond);
    if (bits === 8) expect(fnv(encodeMinifloats(format, x))).toBe(golden.floats[format].saturated);
  });
});

describe('E8M0', () => {
  it('all codes are powers of two, but for NaN', () => {
    for (let code = 0; code < 255; code++) {
      const x = e8m0ToFloat(code);
      expect(x).toBe(2 ** (code - 127));
      expect(Math.fround(x)).toBe(x);
      for (const y of [x, x * 1.5, x * (2 - 2 ** -52), -x]) expect(floorToE8m0(y)).toBe(code);
    }
    expect(e8m0ToFloat(255)).toBeNaN();
    expect(fnv(Float32Array.from({ length: 255 }, (_, code) => e8m0ToFloat(code)))).toBe(golden.e8m0);
  });

  it('has no zero and no infinity', () => {
    expect([0, 2 ** -140, Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN].map(floorToE8m0)).toEqual([0, 0, 254, 254, 255]);
  });
});

it('refuses unknown formats and short outputs', () => {
  for (const format of ['fp8', 'constructor', 'fp16'] as unknown as MinifloatFormat[]) {
    for (const f of [
      () => encodeMinifloats(format, new Float32Array(1)),
      () => decodeMinifloats(format, new Uint8Array(1)),
      () => minifloatValues(format),
    ]) {
      expect(thrown(f).code).toBe('argument/option');
    }
  }
  expect(thrown(() => decodeMinifloats('fp8e4m3', new Uint8Array(2), new Float32Array(1))).code).toBe('argument/shape');
  expect([...decodeMinifloats('fp4e2m1', Uint8Array.of(0x17))]).toEqual([6]); // upper bits are ignored
});
