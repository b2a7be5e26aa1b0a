import { type ActivationRangeMethod, createActivationObserver, klThreshold, staticInput } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const f = Math.fround;
const rng = createRng(3);
const normal = (rows: number, cols: number, scale = 1) =>
  matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal() * scale),
    rows,
    cols,
  );
const observe = (method: Parameters<typeof createActivationObserver>[0], ...batches: Matrix[]) => {
  const o = createActivationObserver(method);
  for (const b of batches) o.add(b);
  return o;
};

/** Mean squared error of x on the grid of a static input. */
function mse(x: Matrix, input: ReturnType<typeof staticInput>): number {
  if (input.kind !== 'int8' || !input.static) throw new Error('not static');
  const { scale, zeroPoint } = input.static;
  let sum = 0;
  for (const v of x.data) {
    const q = Math.min(Math.max(Math.round(v / scale) + zeroPoint, input.symmetric ? -127 : -128), 127) - zeroPoint;
    sum += (q * scale - v) ** 2;
  }
  return sum / x.data.length;
}

describe('createActivationObserver', () => {
  const a = normal(40, 16);
  const b = normal(30, 16, 2);
  const [least, most] = [Math.min(...a.data, ...b.data), Math.max(...a.data, ...b.data)];

  it('minmax: the ends of all batches', () => {
    expect(observe('minmax', a, b).read(true)).toEqual({ min: least, max: most });
    expect(observe('minmax', a, b).count).toBe(70 * 16);
  });

  it("moving average: PyTorch's rule, by hand", () => {
    const ends = (x: Matrix) => [Math.min(...x.data), Math.max(...x.data)] as const;
    const [a0, a1] = ends(a);
    const [b0, b1] = ends(b);
    const { min, max } = observe('moving-average', a, b).read(true);
    expect(min).toBeCloseTo(a0 + 0.01 * (b0 - a0), 12);
    expect(max).toBeCloseTo(a1 + 0.01 * (b1 - a1), 12);
    expect(observe({ method: 'moving-average', constant: 1 }, a, b).read(true)).toEqual({ min: b0, max: b1 });
  });

  it('percentile: what it says of |x|, within a bin', () => {
    const x = normal(400, 64);
    const sorted = Float32Array.from(x.data, Math.abs).sort();
    const { min, max } = observe({ method: 'percentile', percentile: 99 }, x).read(true);
    expect(max).toBe(-min);
    expect(Math.abs(max - sorted[Math.floor(0.99 * sorted.length)]!)).toBeLessThan(8 / 2048 + 0.01);
    expect(observe({ method: 'percentile', percentile: 100 }, x).read(false)).toEqual({
      min: Math.min(...x.data),
      max: Math.max(...x.data),
    });
  });

  it('a cut leaves a shorter side as it is, and zeros count', () => {
    const x = matrix(
      Float32Array.from({ length: 1000 }, (_, i) => (i < 900 ? 0 : i / 1000)),
      10,
      100,
    );
    x.data[0] = -0.125;
    const { min, max } = observe({ method: 'percentile', percentile: 95 }, x).read(false);
    expect(min).toBe(-0.125);
    expect(max).toBeGreaterThan(0.94);
    expect(max).toBeLessThan(0.96);
  });

  it('kl: the threshold of the histogram of |x|', () => {
    const x = normal(500, 64);
    x.data[7] = 15.5;
    const counts = new Float64Array(2048);
    for (const v of x.data) counts[Math.floor((Math.abs(v) / 16) * 2048)]!++;
    const used = counts.subarray(0, Math.floor((15.5 / 16) * 2048) + 1);
    const { min, max } = observe('kl', x).read(true);
    expect(max).toBeLessThan(15.5);
    expect(Math.max(-min, max)).toBe(Math.min((klThreshold(used, 128) * 16) / 2048, 15.5));
  });

  it.each([true, false])('mse: no worse on the data than its plain range, far better with an outlier; symmetric %s', (symmetric) => {
    const x = normal(500, 64);
    for (const outlier of [0, 20]) {
      if (outlier) x.data[5] = outlier;
      const plain = mse(x, staticInput(observe('minmax', x), symmetric));
      const found = mse(x, staticInput(observe({ method: 'mse', norm: 2 }, x), symmetric));
      expect(found).toBeLessThan(plain * 1.001);
      for (let p = 0.25; p < 1; p += 0.05) {
        const o = createActivationObserver();
        const { min, max } = observe('minmax', x).read(symmetric);
        o.add(matrix(Float32Array.of(min * p, max * p), 1, 2));
        expect(found).toBeLessThan(mse(x, staticInput(o, symmetric)) * 1.01); // bins are an eighth of a step at most
      }
    }
  });

  it('all but the moving average do not depend on how batches are cut', () => {
    const x = normal(60, 8);
    for (const method of ['minmax', 'percentile', 'mse', 'kl'] as const) {
      const whole = observe(method, x).read(false);
      const cut = observe(method, x.hi(7, 8), x.lo(7, 0).hi(20, 8), x.lo(27, 0)).read(false);
      expect(cut, method).toEqual(whole);
    }
  });

  it.each(['minmax', 'moving-average', 'percentile', 'mse', 'kl'] as ActivationRangeMethod[])('%s: zeros, nothing, NaN', (method) => {
    const zeros = observe(method, matrix(new Float32Array(12), 3, 4));
    expect(staticInput(zeros, false)).toEqual({ kind: 'int8', per: 'tensor', symmetric: false, static: { scale: 1, zeroPoint: 0 } });
    const code = (work: () => unknown) => {
      try {
        work();
      } catch (e) {
        return isLmqError(e) ? e.code : e;
      }
      return 'nothing thrown';
    };
    expect(code(() => createActivationObserver(method).read(true))).toBe('calibration/short');
    expect(code(() => observe(method, matrix(Float32Array.of(1, Number.NaN), 1, 2)))).toBe('argument/value');
    expect(code(() => observe(method, matrix(Float32Array.of(1, Number.POSITIVE_INFINITY), 1, 2)))).toBe('argument/value');
  });

  it('refuses options out of range', () => {
    for (const bad of [
      { method: 'moving-average', constant: 0 },
      { method: 'percentile', percentile: 101 },
      { method: 'mse', norm: -1 },
      { method: 'mse', maxShrink: Number.NaN },
      { method: 'entropy' },
    ])
      expect(() => createActivationObserver(bad as unknown as 'kl')).toThrow(/out of range|unknown/);
  });
});

describe('staticInput', () => {
  it('is absmax / 127, or the range over 255 with a zero point', () => {
    const x = matrix(Float32Array.of(-1, 3), 1, 2);
    expect(staticInput(observe('minmax', x), true)).toMatchObject({ static: { scale: f(3 / 127), zeroPoint: 0 } });
    expect(staticInput(observe('minmax', x), false)).toMatchObject({ static: { scale: f(4 / 255), zeroPoint: 64 - 128 } });
  });
});
