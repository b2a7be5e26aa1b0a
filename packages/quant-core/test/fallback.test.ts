import { dense } from '@lmq/formats';
import { type FallbackOpts, fallback, fallbackLinear, findParams, rtn } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

function normal(rows: number, cols: number, seed: number): Matrix {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
}
const codeOf = (run: () => unknown) => {
  try {
    run();
  } catch (e) {
    return isLmqError(e) ? `${e.code} ${e.message}` : e;
  }
  return 'accepted';
};

describe('fallback', () => {
  const w = normal(5, 256, 1);

  it('without a strategy of its own and a smoother is round to nearest', () => {
    for (const grid of [{}, { groupSize: 64, symmetric: true, preset: 'awq' as const }, { clip: 'mse' as const, referenceCompat: true }]) {
      const { weight, report } = fallback(w, { bits: 4, strategy: 'rtn', ...grid });
      expect(weight).toEqual(rtn(w, { bits: 4, ...grid }).weight);
      expect(report).toMatchObject({ method: 'fallback', strategy: 'rtn' });
    }
  });

  it('reads any strides', () => {
    const turned = matrix(new Float32Array(5 * 256), 256, 5).transpose(1, 0);
    for (let r = 0; r < 5; r++) for (let c = 0; c < 256; c++) turned.set(r, c, w.get(r, c));
    const opts: FallbackOpts = { bits: 4, groupSize: 128, strategy: 'median', smooth: 'mad' };
    expect(fallback(turned, opts).weight).toEqual(fallback(w, opts).weight);
  });

  it('has zero points unless it is round to nearest or a search', () => {
    const zeros = (opts: Omit<FallbackOpts, 'bits'>) => fallback(w, { bits: 4, symmetric: true, ...opts }).weight.zeroPoints !== undefined;
    expect(zeros({ strategy: 'rtn' })).toBe(false);
    expect(zeros({ strategy: 'mean' })).toBe(true);
    expect(zeros({ strategy: 'mean', smooth: 'mse' })).toBe(false);
  });

  it('smooths groups from a width on', () => {
    const at = (groupSize: number, smooth?: FallbackOpts['smooth']) =>
      fallback(w, { bits: 4, groupSize, strategy: 'midpoint', smooth }).weight;
    expect(at(64, 'percentile')).toEqual(at(64));
    expect(at(64, { method: 'percentile', groupSizeThreshold: 64 })).not.toEqual(at(64));
    expect(at(128, 'percentile')).not.toEqual(at(128));
  });

  it('survives rows without any spread', () => {
    const flat = matrix(
      Float32Array.from({ length: 3 * 128 }, (_, i) => [0, 2, -1e-30][Math.floor(i / 128)]!),
      3,
      128,
    );
    for (const strategy of ['rtn', 'midpoint', 'mean', 'median', 'stdclip'] as const) {
      for (const smooth of [undefined, 'percentile', 'percentile_asym', 'mad', 'mse', 'outlier', 'softnorm', 'log', 'rowcol'] as const) {
        for (const symmetric of [false, true]) {
          const { weight, report } = fallback(flat, { bits: 4, symmetric, strategy, smooth, scaleFormat: 'fp32' });
          expect(Number.isFinite(report.relativeError), `${strategy} ${smooth}`).toBe(true);
          expect(weight.scales.data.every((s) => s > 0)).toBe(true);
          expect(report.relativeError, `${strategy} ${smooth}`).toBeLessThan(0.07); // half a step, at most, of the row of 2
        }
      }
    }
  });

  it('keeps a bias, and reports on a Hessian', () => {
    const h = matrix(new Float32Array(256 * 256), 256, 256);
    for (let i = 0; i < 256; i++) h.set(i, i, 1 + i);
    const bias = new Float32Array(5);
    const { linear, report } = fallbackLinear(
      { weight: dense('fp32', w.data, 5, 256), bias },
      { hessian: h },
      { bits: 4, strategy: 'stdclip', groupSize: 128 },
    );
    expect(linear.bias).toBe(bias);
    expect(report.proxyLoss).toBeGreaterThan(0);
  });

  it.each([
    [{ strategy: 'best' }, 'strategy'],
    [{ strategy: 'rtn', smooth: 'best' }, 'smooth.method'],
    [{ strategy: 'rtn', smooth: null }, 'smooth.method'],
    [{ strategy: 'rtn', smooth: { method: 'mad', k: 0 } }, 'smooth.k'],
    [{ strategy: 'rtn', smooth: { method: 'mad', k: '3' } }, 'smooth.k'],
    [{ strategy: 'rtn', smooth: { method: 'mad', mu: 3 } }, 'smooth.mu'],
    [{ strategy: 'rtn', smooth: { method: 'percentile', percentile: 101 } }, 'smooth.percentile'],
    [{ strategy: 'rtn', smooth: { method: 'percentile_asym', low: 60, high: 40 } }, 'smooth.low'],
    [{ strategy: 'rtn', smooth: { method: 'mse', steps: 0 } }, 'smooth.steps'],
    [{ strategy: 'rtn', smooth: { method: 'rowcol', axis: 'diagonal' } }, 'smooth.axis'],
    [{ strategy: 'rtn', granularity: 'tensor' }, 'each row or group'],
    [{ strategy: 'rtn', bits: 2, trits: true }, 'each row or group'],
  ])('refuses %j', (opts, text) => {
    const message = codeOf(() => fallback(w, { bits: 4, ...opts } as unknown as FallbackOpts));
    expect(message).toContain('argument/option');
    expect(message).toContain(text);
  });
});

describe("clip 'imatrix'", () => {
  const w = normal(4, 64, 2);
  const importance = Float32Array.from({ length: 64 }, (_, i) => (i % 8 ? 0.01 : 100));
  const opts = { bits: 3, groupSize: 32, clip: 'imatrix' as const };

  it('takes importances from a Hessian, of which only ratios count', () => {
    const h = matrix(new Float32Array(64 * 64), 64, 64);
    for (let i = 0; i < 64; i++) h.set(i, i, 7 * importance[i]!);
    expect(rtn(w, { ...opts, hessian: h }).weight).toEqual(rtn(w, { ...opts, importance }).weight);
  });

  it('lowers the weighted error', () => {
    const weighted = (clip: 'imatrix' | 'minmax' | 'mse') => {
      const p = findParams(w, {
        ...opts,
        clip: clip === 'mse' ? { method: 'mse', norm: 2 } : clip === 'imatrix' ? { method: 'imatrix', norm: 2, patience: 0 } : clip,
        importance,
      });
      let sum = 0;
      for (let i = 0; i < w.data.length; i++) {
        const g = Math.floor(i / 32);
        const code = Math.min(Math.max(Math.round(w.data[i]! / p.scales[g]!) + p.zeroPoints[g]!, 0), 7);
        sum += importance[i % 64]! * ((code - p.zeroPoints[g]!) * p.scales[g]! - w.data[i]!) ** 2;
      }
      return sum;
    };
    expect(weighted('imatrix')).toBeLessThan(0.8 * Math.min(weighted('mse'), weighted('minmax')));
  });

  it('without any importance counts inputs alike', () => {
    const at = (value: number) => findParams(w, { ...opts, importance: new Float32Array(64).fill(value) });
    expect(at(0)).toEqual(at(1));
  });

  it.each([
    [undefined, 'argument/option'],
    [new Float32Array(63), 'argument/shape'],
    [Float32Array.from({ length: 64 }, (_, i) => (i === 5 ? -1 : 1)), 'argument/value'],
    [Float32Array.from({ length: 64 }, (_, i) => (i === 5 ? Number.NaN : 1)), 'argument/value'],
  ])('refuses importances %#', (bad, code) => {
    expect(codeOf(() => findParams(w, { ...opts, importance: bad }))).toContain(code);
  });
});
