import { createChannelObserver, createMinMaxObserver } from '@lmq/quant-core';
import { createRng, isLmqError, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const rng = createRng(1);
const all = matrix(
  Float32Array.from({ length: 50 * 3 }, () => rng.normal() + 0.5),
  50,
  3,
);
const part = (from: number, to: number) => all.lo(from, 0).hi(to - from, 3);

describe('createMinMaxObserver', () => {
  it('is exact for any split and merge', () => {
    const one = createMinMaxObserver();
    one.add(all);
    const a = createMinMaxObserver();
    const b = createMinMaxObserver();
    a.add(part(0, 7));
    b.add(part(7, 50));
    a.merge(b);
    a.merge(createMinMaxObserver());
    const want = { min: Math.min(...all.data), max: Math.max(...all.data) };
    expect(one.read()).toEqual(want);
    expect(a.read()).toEqual(want);
    expect(a.count).toBe(150);
  });
});

describe('createChannelObserver', () => {
  it('has the statistics of each channel', () => {
    const o = createChannelObserver(3);
    o.add(all);
    const s = o.read();
    for (let c = 0; c < 3; c++) {
      const x = Array.from({ length: 50 }, (_, t) => all.data[t * 3 + c]!);
      const mean = (f: (v: number) => number) => x.reduce((sum, v) => sum + f(v), 0) / 50;
      expect([s.min[c], s.max[c], s.absMax[c]]).toEqual([Math.min(...x), Math.max(...x), Math.max(...x.map(Math.abs))]);
      expect([s.mean[c], s.meanAbs[c], s.secondMoment[c]]).toEqual([mean((v) => v), mean(Math.abs), mean((v) => v * v)]);
    }
  });

  it('does not depend on the batch split, to the bit', () => {
    const one = createChannelObserver(3);
    one.add(all);
    const split = createChannelObserver(3);
    for (const [from, to] of [
      [0, 1],
      [1, 20],
      [20, 50],
    ] as const)
      split.add(part(from, to));
    expect(split.read()).toEqual(one.read());
  });

  it('merges', () => {
    const one = createChannelObserver(3);
    one.add(all);
    const a = createChannelObserver(3);
    const b = createChannelObserver(3);
    a.add(part(0, 31));
    b.add(part(31, 50));
    a.merge(b);
    a.merge(createChannelObserver(3));
    const [x, y] = [a.read(), one.read()];
    expect([x.tokens, x.min, x.max, x.absMax]).toEqual([y.tokens, y.min, y.max, y.absMax]);
    for (const key of ['mean', 'meanAbs', 'secondMoment'] as const) {
      for (let c = 0; c < 3; c++) expect(Math.abs(x[key][c]! - y[key][c]!)).toBeLessThan(1e-15 * 50); // float64 sums in another order
    }
  });

  it('refuses another width, and to read nothing', () => {
    const code = (run: () => unknown) => {
      try {
        run();
      } catch (e) {
        return isLmqError(e) ? e.code : e;
      }
      return 'accepted';
    };
    expect(code(() => createChannelObserver(4).add(all))).toBe('argument/shape');
    expect(code(() => createChannelObserver(4).read())).toBe('calibration/short');
    expect(code(() => createMinMaxObserver().read())).toBe('calibration/short');
  });
});
