// What GPTQModel and llm-compressor themselves give: golden/make_range_golden.py.
import { readFileSync } from 'node:fs';
import { decode, unpackRows, zeroPointValues } from '@lmq/formats';
import { type FallbackOpts, fallback, findParams, rtn } from '@lmq/quant-core';
import { type Lut, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

type Grid = { scales: number[]; zeros: number[] };
type Common = { seed: number; bits: number; symmetric: boolean; groupSize: number };
const golden = JSON.parse(readFileSync(new URL('golden/range.json', import.meta.url), 'utf8')) as {
  rows: number;
  cols: number;
  seed: number;
  fallbacks: (Omit<Common, 'seed'> & Grid & Pick<FallbackOpts, 'strategy'> & { smooth: FallbackOpts['smooth'] | null; codes: string })[];
  searches: ({ seed: number; norm: number } & Grid)[];
  trits: { seed: number; symmetric: boolean; coarse: boolean; positive: number[]; negative: number[]; codes: string }[];
  imatrix: (Common & Grid & { rows: number; clip: { method: 'imatrix'; patience: number } })[];
};

/** As in the generator. */
function lcg(seed: number): () => number {
  let s = seed;
  return () => {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
}
function weights(seed: number, rows: number, cols: number, coarse = false): Matrix {
  const u = lcg(seed);
  const bell = () => u() + u() + u() + u() - 2;
  const w = matrix(new Float32Array(rows * cols), rows, cols);
  for (let r = 0; r < rows; r++) {
    const shift = 0.2 * bell();
    for (let c = 0; c < cols; c++) {
      let v = bell() + shift;
      if (u() < 0.02) v *= 5;
      w.data[r * cols + c] = coarse ? halfEven(8 * v) / 8 : v;
    }
  }
  return w;
}
const halfEven = (x: number) => (x % 1 === 0.5 || x % 1 === -0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const close = (got: ArrayLike<number>, want: readonly number[], relative: number) => {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++) expect(Math.abs(got[i]! - want[i]!), `${i}`).toBeLessThanOrEqual(relative * Math.abs(want[i]!));
};

// Means and standard deviations are summed in another order than torch's: scales agree to some units of float32's last place.
describe('fallback as published', () => {
  const w = weights(golden.seed, golden.rows, golden.cols);
  for (const { scales, zeros, codes, smooth, ...opts } of golden.fallbacks) {
    it(JSON.stringify({ ...opts, smooth }), () => {
      const own = { ...opts, ...(smooth && { smooth }), scaleFormat: 'fp32' as const };
      const { weight, report } = fallback(w, { ...own, referenceCompat: true });
      close(weight.scales.data, scales, 2e-6);
      const zero = weight.zeroPoints ? [...zeroPointValues(weight, 0, scales.length)] : scales.map(() => 2 ** (opts.bits - 1));
      expect(zero).toEqual(zeros);
      const got = Array.from(unpackRows(weight.codes, opts.bits, golden.rows, golden.cols), (c) => c.toString(16)).join('');
      let wrong = 0;
      for (let i = 0; i < got.length; i++) if (got[i] !== codes[i]) wrong++;
      expect(wrong).toBeLessThanOrEqual(1); // on a tie
      expect(report).toMatchObject({ method: 'fallback', strategy: opts.strategy, bits: opts.bits });

      const right = fallback(w, own); // the nearest on the same grid
      expect(right.weight.scales).toEqual(weight.scales);
      expect(right.report.relativeError).toBeLessThanOrEqual(report.relativeError);
    });
  }
});

describe('the 2-bit search with neighbour zero points', () => {
  it.each(golden.searches)('norm $norm', ({ seed, norm, scales, zeros }) => {
    const w = weights(seed, 40, 32);
    const opts = { bits: 2, scaleFormat: 'fp32' as const };
    const got = findParams(w, { ...opts, clip: { method: 'mse', norm, adjacentZeroPoints: true } });
    close(got.scales, scales, 1e-6);
    expect([...got.zeroPoints]).toEqual(zeros);
    const plain = findParams(w, { ...opts, clip: { method: 'mse', norm } });
    expect(plain.zeroPoints).not.toEqual(got.zeroPoints); // it matters
  });
});

describe('trits', () => {
  it.each(golden.trits)('symmetric $symmetric, on ties $coarse', ({ seed, symmetric, coarse, positive, negative, codes }) => {
    const w = weights(seed, 16, 32, coarse);
    const { weight, report } = rtn(w, { bits: 2, trits: true, symmetric, scaleFormat: 'fp32' });
    const lut = weight as Lut;
    expect([...unpackRows(lut.codes, 2, 16, 32)].join('')).toBe(codes);
    expect(lut.tablePer).toBe(symmetric ? 'tensor' : 'row');
    const value = (row: number, code: number) => [0, negative[row]!, positive[row]!][code]!;
    close(
      decode(weight).data,
      [...codes].map((c, i) => value(Math.floor(i / 32), Number(c))),
      1e-7,
    );
    expect(report).toMatchObject({ bits: 2, trits: true, symmetric });
  });
});

describe('search weighted by importance', () => {
  it.each(golden.imatrix)('$bits bits, symmetric $symmetric, $clip', ({ seed, rows, scales, zeros, clip, ...opts }) => {
    const w = weights(seed, rows, 128);
    const u = lcg(seed + 100);
    const importance = Float32Array.from({ length: 128 }, () => u() ** 4 * 100);
    const grid = { ...opts, preset: 'compressed-tensors' as const, scaleFormat: 'fp32' as const };
    const got = findParams(w, { ...grid, clip, importance });
    close(got.scales, scales, 1e-6);
    const half = 2 ** (opts.bits - 1);
    expect([...got.zeroPoints]).toEqual(zeros.map((z) => z + half));
    const alike = findParams(w, { ...grid, clip, importance: new Float32Array(128).fill(1) });
    if (rows > 1) expect(alike.scales).not.toEqual(got.scales);
  });
});
