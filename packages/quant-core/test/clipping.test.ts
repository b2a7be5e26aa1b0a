import { readFileSync } from 'node:fs';
import { decode } from '@lmq/formats';
import { type AffineOpts, createHistogramObserver, findParams, histogramKl, histogramPercentile, klThreshold, rtn } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const f = Math.fround;
const code = (run: () => unknown) => {
  try {
    run();
  } catch (e) {
    return isLmqError(e) ? e.code : e;
  }
  return 'accepted';
};

/** Normal weights with a few far outliers in every row. */
function outliers(rows: number, cols: number, seed: number): Matrix {
  const rng = createRng(seed);
  const w = matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
  for (let r = 0; r < rows; r++) for (const c of [3, 70]) w.data[r * cols + c] = 30 * (c === 3 ? 1 : -1);
  return w;
}

describe('percentile', () => {
  const scaleOf = (values: number[], opts: Omit<AffineOpts, 'bits'>) =>
    findParams(matrix(Float32Array.from(values), 1, values.length), { bits: 4, scaleFormat: 'fp32', ...opts }).scales[0]!;

  it('is linear between order statistics of the magnitudes', () => {
    const values = [4, -3, 2, -1, 0]; // magnitudes 0 … 4: the 90th percentile is 3.6
    expect(scaleOf(values, { symmetric: true, clip: { method: 'percentile', percentile: 90 } })).toBe(f((2 * f(3.6)) / 15));
    expect(scaleOf(values, { clip: { method: 'percentile', percentile: 90 } })).toBe(f(f(f(3.6) + 3) / 15)); // -3 is inside
    expect(scaleOf(values, { clip: { method: 'percentile', percentile: 25 } })).toBe(f(2 / 15)); // both ends at 1
    expect(scaleOf(values, { clip: { method: 'percentile', percentile: 100 } })).toBe(scaleOf(values, {}));
    expect(scaleOf([2, -3, 1, 0, -4], { symmetric: true, preset: 'gguf', clip: { method: 'percentile', percentile: 75 } })).toBe(f(3 / 8));
  });

  it('leaves outliers out, by default beyond 99.9 %', () => {
    const w = outliers(16, 512, 1);
    const error = (clip: AffineOpts['clip']) => {
      const decoded = decode(rtn(w, { bits: 4, symmetric: true, clip }).weight).data;
      return decoded.reduce((s, v, i) => s + (Math.abs(w.data[i]!) > 20 ? 0 : (v - w.data[i]!) ** 2), 0);
    };
    expect(error({ method: 'percentile', percentile: 99 })).toBeLessThan(0.05 * error('minmax'));
    expect(rtn(w, { bits: 4, clip: 'percentile' })).toMatchObject({
      weight: { scales: rtn(w, { bits: 4, clip: { method: 'percentile', percentile: 99.9 } }).weight.scales },
    });
  });

  it('keeps the range where nearly all weights are zero', () => {
    const sparse = new Array(100).fill(0);
    sparse[7] = 5;
    expect(scaleOf(sparse, { clip: { method: 'percentile', percentile: 90 } })).toBe(f(5 / 15));
    expect(scaleOf(new Array(8).fill(0), { clip: 'percentile' })).toBe(f(2 / 15));
  });
});

describe('mse', () => {
  it('stops after `patience` candidates that are no better', () => {
    const rng = createRng(2);
    const w = matrix(
      Float32Array.from({ length: 40 * 32 }, () => rng.normal()),
      40,
      32,
    );
    const at = (patience?: number) => findParams(w, { bits: 4, clip: { method: 'mse', norm: 2, patience } }).scales;
    expect(at(80)).toEqual(at());
    const first = findParams(w, { bits: 4, clip: { method: 'mse', norm: 2, grid: 100, maxShrink: 0.01 } }).scales; // the whole range only
    const one = at(1);
    const all = at();
    expect(one.some((s, i) => s !== all[i])).toBe(true);
    for (let i = 0; i < one.length; i++) expect(one[i]! <= first[i]! && one[i]! >= all[i]!).toBe(true);
  });
});

describe('klThreshold', () => {
  const golden = JSON.parse(readFileSync(new URL('golden/golden.json', import.meta.url), 'utf8')) as {
    kl: { seed: number; bins: number; values: number; heavy: number; levels: number; keep: number }[];
  };
  for (const o of golden.kl) {
    it(`agrees with the definition written out: ${o.bins} bins, ${o.levels} levels`, () => {
      let s = o.seed;
      const u = () => {
        s = (Math.imul(1664525, s) + 1013904223) >>> 0;
        return s / 2 ** 32;
      };
      const x = Array.from({ length: o.values }, (_, i) => Math.abs(u() + u() + u() - 1.5) * (i % 8 === 0 ? o.heavy : 1));
      const top = Math.max(...x);
      const counts = new Float64Array(o.bins);
      for (const v of x) counts[Math.min(Math.trunc((v / top) * o.bins), o.bins - 1)]!++;
      expect(klThreshold(counts, o.levels)).toBe(o.keep);
    });
  }

  it('keeps all of what a grid can tell apart', () => {
    expect(klThreshold([5, 4, 3, 2], 4)).toBe(4);
    expect(klThreshold([5, 4], 8)).toBe(2);
    expect(klThreshold(new Float64Array(100), 8)).toBe(100);
    expect(klThreshold(new Float64Array(64).fill(7), 8)).toBe(64); // uniform: any cut loses
    expect(code(() => klThreshold([1, 2, 3], 0))).toBe('argument/option');
  });

  it('clips weights of a wide block at a magnitude between the bulk and the outliers', () => {
    const w = outliers(4, 8192, 3);
    const { scales } = findParams(w, { bits: 8, symmetric: true, clip: 'kl', scaleFormat: 'fp32' });
    for (const s of scales) {
      const a = (s * 255) / 2;
      expect(a).toBeGreaterThan(2);
      expect(a).toBeLessThan(15);
    }
    expect(findParams(matrix(new Float32Array(8), 1, 8), { bits: 4, clip: 'kl', scaleFormat: 'fp32' }).scales[0]).toBe(f(2 / 15));
  });
});

it('refuses clips that are none', () => {
  const w = outliers(1, 128, 4);
  for (const clip of [
    'best',
    { method: 'best' },
    { method: 'percentile', percentile: 0 },
    { method: 'percentile', percentile: 101 },
    { method: 'kl', bins: 1 },
    { method: 'mse', patience: 0 },
  ]) {
    expect(
      code(() => findParams(w, { bits: 4, clip: clip as AffineOpts['clip'] })),
      JSON.stringify(clip),
    ).toBe('argument/option');
  }
});

describe('createHistogramObserver', () => {
  const rng = createRng(5);
  const rows = 64;
  const all = matrix(
    Float32Array.from({ length: rows * 32 }, (_, i) => rng.normal() * 2 ** Math.floor(i / 256 - 3)), // the range grows eight times
    rows,
    32,
  );
  const part = (from: number, to: number) => all.lo(from, 0).hi(to - from, 32);

  it('counts magnitudes in equal bins', () => {
    const o = createHistogramObserver({ bins: 64 });
    o.add(all);
    const h = o.read();
    const want = new Float64Array(64);
    for (const v of all.data) want[Math.trunc(Math.abs(v) / h.width)]!++;
    expect(h.counts).toEqual(want);
    expect(h.absMax).toBe(Math.max(...all.data.map(Math.abs)));
    expect(h.count).toBe(rows * 32);
    expect(Number.isInteger(Math.log2(h.width * 64))).toBe(true);
    expect(h.width * 64 > h.absMax && h.width * 32 <= h.absMax).toBe(true);
  });

  it('does not depend on the batch split or the order of merging', () => {
    const one = createHistogramObserver({ bins: 64 });
    one.add(all);
    const split = createHistogramObserver({ bins: 64 });
    for (const [from, to] of [
      [0, 1],
      [1, 20],
      [20, 64],
    ] as const)
      split.add(part(from, to));
    expect(split.read()).toEqual(one.read());
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
      [1, 2, 0],
    ]) {
      const pieces = [part(0, 5), part(5, 40), part(40, 64)].map((x) => {
        const o = createHistogramObserver({ bins: 64 });
        o.add(x);
        return o;
      });
      const merged = createHistogramObserver({ bins: 64 });
      merged.merge(createHistogramObserver({ bins: 64 }));
      for (const i of order) merged.merge(pieces[i]!);
      expect(merged.read()).toEqual(one.read());
    }
  });

  it('counts zeros, powers of two and views', () => {
    const o = createHistogramObserver({ bins: 4 });
    o.add(matrix(new Float32Array(3), 1, 3));
    expect(o.read()).toMatchObject({ width: 0, absMax: 0, count: 3 });
    expect([histogramKl(o.read(), 8), histogramPercentile(o.read(), 50)]).toEqual([0, 0]);
    o.add(matrix(Float32Array.of(1, -1, 0.5, 2 ** -140), 2, 2));
    expect([...o.read().counts]).toEqual([4, 1, 2, 0]); // range 2
    o.merge(createHistogramObserver({ bins: 4 }));
    o.add(matrix(Float32Array.of(-2), 1, 1));
    expect([...o.read().counts]).toEqual([5, 2, 1, 0]);
  });

  it('finds percentiles within a bin of the exact ones', () => {
    const o = createHistogramObserver();
    o.add(all);
    const h = o.read();
    const sorted = all.data.map(Math.abs).sort();
    for (const p of [10, 50, 90, 99, 99.9]) {
      const exact = sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * p) / 100) - 1)]!;
      expect(Math.abs(histogramPercentile(h, p) - exact)).toBeLessThanOrEqual(h.width);
    }
    expect(histogramPercentile(h, 100)).toBe(h.absMax);
    expect(code(() => histogramPercentile(h, 0))).toBe('argument/option');
  });

  it('clips a long tail by information, and hardly a short one', () => {
    const normal = createRng(6);
    const observe = (sample: () => number) => {
      const o = createHistogramObserver();
      o.add(matrix(Float32Array.from({ length: 100_000 }, sample), 100, 1000));
      return o.read();
    };
    const short = observe(() => normal.uniform() - 0.5);
    expect(histogramKl(short, 8)).toBeGreaterThan(0.97 * short.absMax);
    const long = observe(() => normal.normal() ** 5);
    const cut = histogramKl(long, 8);
    expect(cut).toBeLessThan(0.9 * long.absMax);
    expect(cut).toBeGreaterThan(1);
    expect(histogramKl(long, 4)).toBeLessThan(cut); // fewer levels, harder cut
    expect(code(() => histogramKl(long, 9))).toBe('argument/option');
  });

  it('refuses odd bins, other bins, values that are not finite, and to read nothing', () => {
    expect(code(() => createHistogramObserver({ bins: 7 }))).toBe('argument/option');
    expect(code(() => createHistogramObserver().read())).toBe('calibration/short');
    const o = createHistogramObserver({ bins: 8 });
    expect(code(() => o.add(matrix(Float32Array.of(1, Number.NaN), 1, 2)))).toBe('argument/value');
    expect(o.count).toBe(0);
    const other = createHistogramObserver({ bins: 16 });
    other.add(all);
    expect(code(() => o.merge(other))).toBe('argument/shape');
  });
});
