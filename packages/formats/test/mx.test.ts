import { decode, decodeMinifloats, encodeMx, FLOAT_TRAITS, layoutName, type MxScaleRule, unpackRows, validate } from '@lmq/formats';
import { createRng, type Minifloat, type MinifloatFormat, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { fnv, golden, weights } from './_golden.js';
import { thrown } from './_thrown.js';

const codesOf = (t: Minifloat) => unpackRows(t.codes, FLOAT_TRAITS[t.format].bits, t.shape[0], t.shape[1]);
/** Unscaled elements; -0 as 0. */
const elements = (t: Minifloat) => decodeMinifloats(t.format, codesOf(t)).map((x) => x + 0);

const w = weights(20, 32, 256, 20);
w.fill(0, 0, 32);
for (let c = 32; c < 64; c++) w[256 + c]! *= 2 ** 100;
for (let c = 64; c < 96; c++) w[512 + c]! *= 2 ** -60;
/** Every sixth bit of a largest magnitude's fraction. */
const edges = Float32Array.from({ length: 64 * 32 }, (_, i) => {
  const top = 1 + Math.floor(i / 32) / 64;
  return i % 32 === 0 ? top : Math.fround(top * Math.fround(((i % 32) - 1) / 31));
});
const inputs: Record<string, [Float32Array, number, number]> = { weights: [w, 32, 256], edges: [edges, 64, 32] };
const FORMATS: MinifloatFormat[] = ['fp8e4m3', 'fp8e5m2', 'fp6e2m3', 'fp6e3m2', 'fp4e2m1'];

describe('MX', () => {
  it.each(golden.mx)('$format $rule, $input: scales and elements of $source', (g) => {
    const t = encodeMx(g.format, matrix(...inputs[g.input]!), { scaleRule: g.rule });
    validate(t);
    expect(fnv(t.scales!.data)).toBe(g.scales);
    if (g.codes) expect(fnv(codesOf(t))).toBe(g.codes);
    else expect(fnv(elements(t))).toBe(g.values);
  });

  it.each(FORMATS)('%s: errs by at most half a step, or what saturation takes', (format) => {
    const { fractionBits, max } = FLOAT_TRAITS[format];
    const rng = createRng(6);
    for (const scaleRule of ['floor', 'even'] as const) {
      const x = Float32Array.from({ length: 4 * 96 }, () => rng.normal() * 2 ** (rng.below(40) - 20));
      const t = encodeMx(format, matrix(x, 4, 96), { scaleRule });
      const back = decode(t).data;
      for (let i = 0; i < x.length; i++) {
        const scale = 2 ** (t.scales!.data[Math.floor(i / 32)]! - 127);
        const reach = scale * max;
        const half = Math.max(scale * FLOAT_TRAITS[format].minSubnormal, 2 ** (Math.floor(Math.log2(Math.abs(x[i]!))) - fractionBits)) / 2;
        const want = Math.min(Math.abs(x[i]!), reach);
        expect(Math.abs(Math.abs(back[i]!) - want)).toBeLessThanOrEqual(half);
        expect(Math.sign(back[i]!) * Math.sign(x[i]!)).toBeGreaterThanOrEqual(0);
        expect(Math.abs(x[i]!)).toBeLessThan(reach * 2); // the exponent fits
      }
    }
  });

  it('rules differ where a largest magnitude would saturate', () => {
    const scaleOf = (top: number, format: MinifloatFormat, scaleRule: MxScaleRule) =>
      encodeMx(format, matrix(Float32Array.of(top, 0), 1, 2), { scaleRule }).scales!.data[0]! - 127;
    expect([1.74, 1.75, 1.99].map((m) => scaleOf(m, 'fp4e2m1', 'floor'))).toEqual([-2, -2, -2]);
    expect([1.74, 1.75, 1.99].map((m) => scaleOf(m, 'fp4e2m1', 'even'))).toEqual([-2, -1, -1]);
    expect([1.74, 1.75, 1.99].map((m) => scaleOf(m, 'fp4e2m1', 'compressed-tensors'))).toEqual([-2, -1, -1]);
    expect([1.75, 1.9, 1.94].map((m) => scaleOf(m, 'fp8e4m3', 'even'))).toEqual([-8, -8, -7]);
    expect([1.74, 1.75].map((m) => scaleOf(m, 'fp8e4m3', 'compressed-tensors'))).toEqual([-8, -7]);
  });

  it('short last groups, zeros, and numbers at both ends of float32', () => {
    const x = new Float32Array(2 * 40);
    x[35] = 3;
    x[40] = 3.4e38;
    x[72] = 2 ** -149;
    const t = encodeMx('fp4e2m1', matrix(x, 2, 40));
    validate(t);
    expect(layoutName(t)).toBe('fp4e2m1, scales 1x32 e8m0');
    expect([...t.scales!.data]).toEqual([0, 126, 252, 0]);
    const back = decode(t).data;
    expect(back[35]).toBe(3);
    expect(back[40]).toBe(1.5 * 2 ** 127);
    expect(back[72]).toBe(0);
    expect(back.filter((v) => v !== 0)).toHaveLength(2);
    expect(encodeMx('fp8e4m3', matrix(new Float32Array(5), 1, 5)).scales!.block).toEqual([1, 5]);
  });

  it('refuses what it cannot hold', () => {
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      expect(thrown(() => encodeMx('fp8e4m3', matrix(Float32Array.of(1, 2, 3, bad), 2, 2))).message).toContain('weight [1, 1]');
    }
    const ok = matrix(new Float32Array(2), 1, 2);
    expect(thrown(() => encodeMx('fp16' as 'fp8e4m3', ok)).code).toBe('argument/option');
    expect(thrown(() => encodeMx('fp8e4m3', ok, { scaleRule: 'up' as 'even' })).code).toBe('argument/option');
    expect(thrown(() => encodeMx('fp8e5m2', ok, { scaleRule: 'compressed-tensors' })).code).toBe('argument/option');
  });
});
