import { bitsPerWeight, decode, decodeMinifloats, encodeNvfp4, layoutName, type Nvfp4ScaleRule, unpackRows, validate } from '@lmq/formats';
import { createRng, type Minifloat, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { fnv, golden, weights } from './_golden.js';
import { thrown } from './_thrown.js';

const codesOf = (t: Minifloat) => unpackRows(t.codes, 4, t.shape[0], t.shape[1]);
const plus = (data: Float32Array) => data.map((x) => x + 0); // -0 as 0
const RULES: Nvfp4ScaleRule[] = ['compressed-tensors', 'torchao'];

const inputs: Record<string, [Float32Array, number, number]> = {
  weights: [weights(21, 32, 256, 9).fill(0, 0, 16), 32, 256],
  spread: [weights(22, 16, 128, 30).fill(0, 0, 16), 16, 128],
};

describe('NVFP4', () => {
  it.each(golden.nvfp4)('$input, $rule: scales and elements of the reference', (g) => {
    const t = encodeNvfp4(matrix(...inputs[g.input]!), { scaleRule: g.rule });
    validate(t);
    expect(t.scales!.global).toEqual({ op: g.rule === 'torchao' ? 'multiply' : 'divide', value: g.global });
    expect(fnv(t.scales!.data)).toBe(g.scales);
    if (g.codes) expect(fnv(codesOf(t))).toBe(g.codes);
    else {
      expect(fnv(plus(decodeMinifloats('fp4e2m1', codesOf(t))))).toBe(g.values);
      expect(fnv(plus(decode(t).data))).toBe(g.decoded);
    }
  });

  it.each(RULES)('%s: errs by at most a half of the widest step and what rounding the scale adds', (scaleRule) => {
    const rng = createRng(9);
    const x = Float32Array.from({ length: 8 * 64 }, () => rng.normal());
    const t = encodeNvfp4(matrix(x, 8, 64), { scaleRule });
    const back = decode(t).data;
    for (let g = 0; g < x.length; g += 16) {
      const group = x.subarray(g, g + 16);
      const top = group.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      // from 4 to 6 the step is 2; E4M3 moves a scale by at most 1/16
      group.forEach((v, i) => {
        expect(Math.abs(v - back[g + i]!)).toBeLessThanOrEqual((top / 6) * (17 / 16) + top / 16);
      });
    }
    expect(layoutName(t)).toBe('fp4e2m1, scales 1x16 fp8e4m3 global');
    expect(bitsPerWeight(t)).toBe(4 + 8 / 16 + 32 / 512);
  });

  it.each(RULES)('%s: zeros and very small weights stay finite', (scaleRule) => {
    for (const top of [0, 2 ** -149, 1e-37, 3e38]) {
      const x = Float32Array.from({ length: 48 }, (_, i) => (i === 20 ? top : i < 16 ? top / 64 : 0));
      const t = encodeNvfp4(matrix(x, 2, 24), { scaleRule });
      validate(t);
      const back = decode(t).data;
      expect(back.every(Number.isFinite)).toBe(true);
      expect(Math.abs(back[20]! - x[20]!)).toBeLessThanOrEqual(top < 1e-30 ? top : top / 8);
    }
  });

  it('refuses what it cannot hold', () => {
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      expect(thrown(() => encodeNvfp4(matrix(Float32Array.of(1, bad, 2), 1, 3))).message).toContain('weight [0, 1]');
    }
    expect(thrown(() => encodeNvfp4(matrix(new Float32Array(2), 1, 2), { scaleRule: 'x' as 'torchao' })).code).toBe('argument/option');
  });
});
