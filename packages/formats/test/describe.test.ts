import { describe, FLOAT_TRAITS } from '@lmq/formats';
import { expect, describe as group, it } from 'vitest';
import { naiveFloat } from './_bits.js';
import { thrown } from './_thrown.js';

group('describe', () => {
  it('takes 1 in fp16 apart', () => {
    expect(describe(0x3c00, 'fp16')).toEqual({
      format: 'fp16',
      bits: '0011110000000000',
      sign: { raw: 0, bits: '0' },
      exponent: { raw: 15, unbiased: 0, bits: '01111' },
      fraction: { raw: 0, bits: '0000000000' },
      value: 1,
      kind: 'normal',
      spacing: 2 ** -10,
      range: { max: 65504, minNormal: 2 ** -14, minSubnormal: 2 ** -24 },
    });
  });

  it.each([
    [0x8000, 'fp16', 'zero', -0, 2 ** -24],
    [0x0001, 'fp16', 'subnormal', 2 ** -24, 2 ** -24],
    [0x03ff, 'fp16', 'subnormal', 1023 * 2 ** -24, 2 ** -24],
    [0x7bff, 'fp16', 'normal', 65504, 32],
    [0xfc00, 'fp16', 'infinity', Number.NEGATIVE_INFINITY, Number.NaN],
    [0x7e00, 'fp16', 'nan', Number.NaN, Number.NaN],
    [0x4049, 'bf16', 'normal', 3.140625, 2 ** -6],
    [0x7fc0, 'bf16', 'nan', Number.NaN, Number.NaN],
    [0xc0490fdb, 'fp32', 'normal', -3.1415927410125732, 2 ** -22],
    [0x00000001, 'fp32', 'subnormal', 2 ** -149, 2 ** -149],
    [0x7e, 'fp8e4m3', 'normal', 448, 32],
    [0xff, 'fp8e4m3', 'nan', Number.NaN, Number.NaN],
    [0x01, 'fp8e4m3', 'subnormal', 2 ** -9, 2 ** -9],
    [0x7c, 'fp8e5m2', 'infinity', Number.POSITIVE_INFINITY, Number.NaN],
    [0xfb, 'fp8e5m2', 'normal', -57344, 8192],
    [0x3f, 'fp6e2m3', 'normal', -7.5, 0.5],
    [0x07, 'fp6e2m3', 'subnormal', 0.875, 0.125],
    [0x1f, 'fp6e3m2', 'normal', 28, 4],
    [0x8, 'fp4e2m1', 'zero', -0, 0.5],
    [0x7, 'fp4e2m1', 'normal', 6, 2],
    [0, 'e8m0', 'normal', 2 ** -127, 2 ** -127],
    [254, 'e8m0', 'normal', 2 ** 127, 2 ** 127],
    [255, 'e8m0', 'nan', Number.NaN, Number.NaN],
  ] as const)('%d as %s is %s', (bits, format, kind, value, spacing) => {
    const d = describe(bits, format);
    expect(d.kind).toBe(kind);
    expect(d.value).toBe(value);
    expect(d.spacing).toBe(spacing);
    expect(d.sign.bits + d.exponent.bits + d.fraction.bits).toBe(d.bits);
  });

  it('spacing is the step to the next code, for all finite fp16 numbers below the largest', () => {
    for (let h = 0; h < 0x7bff; h++) {
      if (describe(h, 'fp16').spacing !== naiveFloat(h + 1, 'fp16') - naiveFloat(h, 'fp16')) expect.fail(`code ${h}`);
    }
  });

  it('knows the ranges', () => {
    expect(FLOAT_TRAITS.fp32).toMatchObject({ max: 3.4028234663852886e38, minNormal: 2 ** -126, minSubnormal: 2 ** -149, bits: 32 });
    expect(FLOAT_TRAITS.bf16).toMatchObject({ max: 3.3895313892515355e38, minNormal: 2 ** -126, minSubnormal: 2 ** -133, bits: 16 });
  });

  it('takes E8M0 apart: an exponent and nothing else', () => {
    expect(describe(130, 'e8m0')).toMatchObject({
      bits: '10000010',
      sign: { raw: 0, bits: '' },
      exponent: { raw: 130, unbiased: 3, bits: '10000010' },
      fraction: { raw: 0, bits: '' },
      value: 8,
    });
  });

  it('takes integers apart', () => {
    expect(describe(0xf, 'int4')).toEqual({
      format: 'int4',
      bits: '1111',
      sign: { raw: 1, bits: '1' },
      value: -1,
      kind: 'integer',
      spacing: 1,
      range: { min: -8, max: 7 },
    });
    expect(describe(0x80, 'int8').value).toBe(-128);
    expect(describe(0xff, 'uint8')).toMatchObject({ value: 255, sign: null, range: { min: 0, max: 255 } });
    expect(describe(0, 'uint4').kind).toBe('zero');
  });

  it('refuses bits that do not fit', () => {
    for (const [bits, format] of [
      [65536, 'fp16'],
      [-1, 'fp16'],
      [1.5, 'bf16'],
      [16, 'int4'],
      [2 ** 32, 'fp32'],
      [256, 'fp8e4m3'],
      [64, 'fp6e2m3'],
      [0, 'fp8'],
    ] as const) {
      expect(thrown(() => describe(bits, format as 'fp16')).code).toBe('argument/option');
    }
  });
});
