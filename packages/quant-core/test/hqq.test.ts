import { decode, scaleValues, unpackRows, validate, zeroValues } from '@lmq/formats';
import { type HqqOpts, hqq, hqqLinear, proxyLoss, rtn } from '@lmq/quant-core';
import { type Affine, isLmqError, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { bytes, distance, floats, golden, tailed } from './_tables.js';

const { rows, cols } = golden;

describe('the published solver', () => {
  it.each(golden.hqq)('$input weights, $bits bits, groups of $groupSize', ({ input, bits, groupSize, codes, scale, zero }) => {
    const w = matrix(floats(golden.inputs[input]!), rows, cols);
    const { weight } = hqq(w, { bits, groupSize, scaleFormat: 'fp32', referenceCompat: true });
    validate(weight);
    const [wantScales, wantZeros, wantCodes] = [floats(scale), floats(zero), bytes(codes)];
    expect(scaleValues(weight.scales)).toEqual(wantScales);
    // PyTorch adds up in float32 and in another order: the last bits of zero points
    const zeros = zeroValues(weight, 0, wantZeros.length) as Float32Array;
    zeros.forEach((z, g) => void expect(Math.abs(z - wantZeros[g]!)).toBeLessThan(1e-6 * Math.max(1, Math.abs(wantZeros[g]!))));
    const got = unpackRows(weight.codes, bits, rows, cols);
    expect(got).toEqual(wantCodes);
  });
});

describe('hqq', () => {
  it.each([1, 2, 3, 4, 8])('%i bits: is nearer than round to nearest on the same scales', (bits) => {
    for (const sigma of [0.02, 1]) {
      const w = tailed(32, 256, bits, sigma);
      const errors = (iters: number, p: number) => distance(w.data, decode(hqq(w, { bits, scaleFormat: 'fp32', iters }).weight).data, p);
      expect(errors(20, 0.7)).toBeLessThan(errors(0, 0.7) * (bits < 8 ? 1 : 1.001));
      if (sigma < 1) expect(errors(20, 2)).toBeLessThan(errors(0, 2)); // nothing there is so far off that it is an outlier
    }
  });

  it('loses less than plain round to nearest where p < 1 measures', () => {
    const w = tailed(64, 256, 5);
    for (const bits of [2, 3, 4]) {
      const loss = (t: Affine) => distance(w.data, decode(t).data, 0.7);
      expect(loss(hqq(w, { bits }).weight)).toBeLessThan(0.99 * loss(rtn(w, { bits, groupSize: 64 }).weight));
    }
  });

  it.each([2, 3, 4])('%i bits: starts where the published solver does not look', (bits) => {
    const w = tailed(64, 256, 6, 0.02);
    const loss = (o: HqqOpts) => distance(w.data, decode(hqq(w, { bits, ...o }).weight).data, 2);
    expect(loss({})).toBeLessThan(0.98 * loss({ referenceCompat: true, scaleFormat: 'fp32' }));
    expect(loss({ iters: 5 })).toBeLessThanOrEqual(1.001 * loss({ iters: 1 }));
  });

  it('has three levels in 2 bits, the published 1.58', () => {
    const w = tailed(8, 64, 9, 0.02);
    for (const referenceCompat of [false, true]) {
      const { weight, report } = hqq(w, { trits: true, groupSize: 32, referenceCompat, scaleFormat: 'fp32' });
      expect(report).toMatchObject({ bits: 2, trits: true });
      expect(new Set(unpackRows(weight.codes, 2, 8, 64))).toEqual(new Set([0, 1, 2]));
      const scales = scaleValues(weight.scales);
      for (let g = 0; g < scales.length; g++) {
        const group = w.data.subarray(32 * g, 32 * g + 32); // two steps span it
        expect(scales[g]! * 2).toBeCloseTo(Math.max(...group) - Math.min(...group), 6);
      }
    }
    expect(() => hqq(w, { trits: true, bits: 3 })).toThrow(/stored in 2 bits/);
  });

  it('takes the codes that are nearest on the stored grid', () => {
    const w = tailed(6, 64, 8);
    const { weight } = hqq(w, { bits: 3, groupSize: 32, scaleFormat: 'bf16' });
    const scales = scaleValues(weight.scales);
    const zeros = zeroValues(weight, 0, scales.length);
    decode(weight).data.forEach((v, i) => {
      const g = Math.floor(i / 32);
      for (let q = 0; q < 8; q++)
        expect(Math.abs(w.data[i]! - v)).toBeLessThanOrEqual(Math.abs(w.data[i]! - (q - zeros[g]!) * scales[g]!) + 1e-7);
    });
  });

  it('holds groups that are constant, zero, tiny, or far from zero', () => {
    const w = matrix(new Float32Array(5 * 32), 5, 32);
    for (let c = 0; c < 32; c++) {
      w.set(1, c, 0.375);
      w.set(2, c, 1e-6 * Math.sin(c));
      w.set(3, c, 40 + Math.sin(c));
      w.set(4, c, 5000 + 0.01 * Math.sin(c));
    }
    const { weight } = hqq(w, { groupSize: 32 });
    validate(weight);
    const out = decode(weight).data;
    expect(out.subarray(0, 32).every((v) => v === 0)).toBe(true);
    expect(out.subarray(32, 64).every((v) => v === 0.375)).toBe(true);
    for (let i = 64; i < 160; i++) {
      const step = [2e-6 / 15, 2 / 15, 5001 / 15][Math.floor(i / 32) - 2]!;
      expect(Math.abs(out[i]! - w.data[i]!)).toBeLessThan(2 * step);
    }
    expect(hqq(w, { groupSize: 32, referenceCompat: true, scaleFormat: 'fp32' }).weight.kind).toBe('affine');
  });

  it('keeps a linear, reports the proxy loss, and fills a row without groups', () => {
    const w = tailed(8, 48, 3);
    const h = matrix(new Float32Array(48 * 48), 48, 48);
    for (let i = 0; i < 48; i++) h.set(i, i, 1 + (i % 5));
    const bias = new Float32Array(8).fill(1);
    const { linear, report } = hqqLinear(
      { weight: { kind: 'dense', shape: [8, 48], format: 'fp32', data: w.data }, bias },
      { hessian: h },
      { groupSize: -1 },
    );
    expect(linear.bias).toBe(bias);
    expect((linear.weight as Affine).groupSize).toBe(48);
    expect(report).toMatchObject({ method: 'hqq', bits: 4, groupSize: -1, symmetric: false });
    expect(report.proxyLoss).toBe(proxyLoss(w, decode(linear.weight), h).relative);
    expect(report.bitsPerWeight).toBeCloseTo(4 + 32 / 48, 10);
  });

  it.each<[string, Parameters<typeof hqq>[1], string]>([
    ['bits', { bits: 9 }, 'argument/option'],
    ['a group size', { groupSize: 48 }, 'argument/option'],
    ['an exponent', { lpNorm: 0 }, 'argument/option'],
    ['beta', { beta: 0 }, 'argument/option'],
    ['kappa', { kappa: 0.5 }, 'argument/option'],
    ['iterations', { iters: -1 }, 'argument/option'],
    ['a format', { scaleFormat: 'fp8' as 'fp16' }, 'argument/option'],
  ])('refuses %s', (_, opts, code) => {
    let found: unknown;
    try {
      hqq(tailed(2, 64, 1), opts);
    } catch (e) {
      found = e;
    }
    expect(isLmqError(found) && found.code).toBe(code);
  });

  it('refuses NaN, and numbers beyond half precision', () => {
    const w = tailed(2, 64, 1);
    w.data[70] = Number.NaN;
    expect(() => hqq(w)).toThrow(/\[1, 6\]/);
    w.data[70] = 3e7;
    expect(() => hqq(w)).toThrow(/row 1, group 0 needs numbers beyond fp16/);
    expect(decode(hqq(w, { scaleFormat: 'bf16' }).weight).data[70]).toBeGreaterThan(2e7);
  });
});
