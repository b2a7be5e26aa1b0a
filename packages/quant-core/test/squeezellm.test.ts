import { bitsPerWeight, decode, validate } from '@lmq/formats';
import { findOutliers, proxyLoss, rtn, squeezellm, squeezellmLinear } from '@lmq/quant-core';
import { type Csr, createRng, isLmqError, type Lut, matrix, type Parts, type Sum, type Tensor } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { tailed } from './_tables.js';

const [rows, cols] = [24, 256];
const w = tailed(rows, cols, 1);
const rng = createRng(2);
const fisher = matrix(
  Float32Array.from({ length: rows * cols }, () => rng.normal() ** 4),
  rows,
  cols,
);
const hessian = matrix(new Float32Array(cols * cols), cols, cols);
for (let i = 0; i < cols; i++) hessian.set(i, i, i % 17 ? 1 : 100);

/** Σ sensitivity · e² / Σ sensitivity · w². */
function weighted(f: Tensor, decoded: Tensor): number {
  let [error, norm] = [0, 0];
  w.data.forEach((x, i) => {
    error += f.data[i]! * (x - decoded.data[i]!) ** 2;
    norm += f.data[i]! * x ** 2;
  });
  return error / norm;
}

async function refusal(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
  } catch (e) {
    if (isLmqError(e)) return e.code;
    throw e;
  }
  return 'accepted';
}

describe('squeezellm', () => {
  it('makes a table for each row, which Fisher information pulls to the weights that matter', async () => {
    const plain = await squeezellm(w, {}, { bits: 3 });
    const guided = await squeezellm(w, { fisher }, { bits: 3 });
    validate(guided.weight);
    expect(guided.weight).toMatchObject({ kind: 'lut', tablePer: 'row', bits: 3 });
    expect(guided.report).toMatchObject({ method: 'squeezellm', sensitivity: 'fisher', outliers: 0, groupSize: -1 });
    expect(plain.report.sensitivity).toBe('uniform');
    expect(weighted(fisher, decode(guided.weight))).toBeLessThan(0.6 * weighted(fisher, decode(plain.weight)));
    expect(plain.report.relativeError).toBeLessThan(0.6 * rtn(w, { bits: 3 }).report.relativeError);
  });

  it('names the variant that counts by the diagonal of the Hessian', async () => {
    const { weight, report } = await squeezellm(w, { hessian }, { bits: 3 });
    expect(report.sensitivity).toBe('hessian-diagonal');
    expect(report.proxyLoss).toBe(proxyLoss(w, decode(weight), hessian).relative);
    const plain = await squeezellm(w, { hessian }, { bits: 3, sensitivity: 'uniform' });
    expect(report.proxyLoss).toBeLessThan(plain.report.proxyLoss!);
  });

  it('keeps outliers beside the tables: as many as asked for, exact to half precision, and the rest the better for it', async () => {
    const dense = await squeezellm(w, { fisher }, { bits: 3 });
    const { weight, report } = await squeezellm(w, { fisher }, { bits: 3, sparse: { share: 0.02, sensitive: 0.005 } });
    validate(weight);
    const [lut, csr] = (weight as Sum).terms as [Lut, Csr];
    expect([lut.kind, csr.kind]).toEqual(['lut', 'csr']);
    const apart = findOutliers(w.data, fisher.data, { share: 0.02, sensitive: 0.005 });
    expect(report.outliers).toBe(apart.reduce((n, a) => n + a, 0));
    expect(report.outliers).toBe(Math.floor(0.02 * rows * cols));
    const largest = w.data.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    const decoded = decode(weight).data;
    apart.forEach((a, i) => void (a && expect(Math.abs(decoded[i]! - w.data[i]!)).toBeLessThan(2 ** -11 * largest)));
    expect(report.relativeError).toBeLessThan(0.8 * dense.report.relativeError);
    expect(report.bitsPerWeight).toBeCloseTo(bitsPerWeight(lut) + (48 * csr.columns.length + 32 * (rows + 1)) / (rows * cols), 10);
  });

  it('keeps the rows with most outliers whole', async () => {
    const wild = matrix(
      w.data.map((x, i) => (Math.floor(i / cols) === 7 ? 4 * x : x)),
      rows,
      cols,
    );
    const { weight, report } = await squeezellm(wild, {}, { sparse: { share: 0.02, fullRows: 1, format: 'fp32' } });
    validate(weight);
    expect(report.fullRows).toBe(1);
    const { parts } = weight as Parts;
    expect([...parts[0]!.index]).toEqual([7]);
    expect(decode(weight).data.subarray(7 * cols, 8 * cols)).toEqual(wild.data.subarray(7 * cols, 8 * cols));
    expect(report.outliers).toBeLessThan(findOutliers(wild.data, null, { share: 0.02 }).reduce((n, a) => n + a, 0));
  });

  it('spends no table value on weights that are kept apart, and holds rows of few or equal weights exactly', async () => {
    const few = matrix(
      Float32Array.from({ length: 4 * 64 }, (_, i) => (i < 192 ? [-1, 0, 0.5, 2][i % 4]! : 0)),
      4,
      64,
    );
    for (const sparse of [false, true, { share: 0.3 }])
      expect(decode((await squeezellm(few, {}, { bits: 2, sparse })).weight).data).toEqual(few.data);
    const all = await squeezellm(tailed(2, 4, 9), {}, { bits: 2, sparse: { range: 0 } });
    validate(all.weight);
  });

  it('keeps a linear, reports progress, and stops when told to', async () => {
    const linear = { weight: { kind: 'dense' as const, shape: [rows, cols] as [number, number], format: 'fp32' as const, data: w.data } };
    const bias = new Float32Array(rows);
    const done: number[] = [];
    const out = await squeezellmLinear({ ...linear, bias }, { fisher }, { onProgress: (e) => void done.push(e.done) });
    expect(out.linear.bias).toBe(bias);
    expect(out.linear.weight).toEqual((await squeezellm(w, { fisher })).weight);
    expect(done.at(-1)).toBe(rows);
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    await expect(squeezellm(w, {}, { signal: stop.signal })).rejects.toThrow('enough');
  });

  it.each<[string, Parameters<typeof squeezellm>[1], Parameters<typeof squeezellm>[2], string]>([
    ['bits', {}, { bits: 0 }, 'argument/option'],
    ['a sensitivity without its statistics', { hessian }, { sensitivity: 'fisher' }, 'argument/option'],
    ['a Fisher matrix of another shape', { fisher: hessian }, {}, 'argument/shape'],
    ['a Hessian of another shape', { hessian: fisher }, {}, 'argument/shape'],
    [
      'negative sensitivities',
      {
        fisher: matrix(
          fisher.data.map((x) => -x),
          rows,
          cols,
        ),
      },
      {},
      'argument/value',
    ],
    ['a share', {}, { sparse: { share: 0.6 } }, 'argument/option'],
    ['more sensitive weights than outliers', {}, { sparse: { share: 0.001, sensitive: 0.01 } }, 'argument/option'],
    ['a range', {}, { sparse: { range: -1 } }, 'argument/option'],
    ['only whole rows', {}, { sparse: { fullRows: rows } }, 'argument/option'],
  ])('refuses %s', async (_, stats, opts, code) => {
    expect(await refusal(() => squeezellm(w, stats, opts))).toBe(code);
  });

  it('refuses NaN, and outliers beyond half precision', async () => {
    const bad = matrix(w.data.slice(), rows, cols);
    bad.data[5] = Number.NaN;
    expect(await refusal(() => squeezellm(bad))).toBe('argument/value');
    bad.data[5] = 1e9;
    expect(await refusal(() => squeezellm(bad, {}, { sparse: true }))).toBe('argument/value');
    expect(await refusal(() => squeezellm(bad, {}, { sparse: { format: 'bf16' } }))).toBe('accepted');
  });
});

describe('findOutliers', () => {
  it('by ranges: beyond the quartiles, whichever side is further', () => {
    const x = Float32Array.from({ length: 101 }, (_, i) => i - 40); // quartiles -15 and 35
    const found = findOutliers(x, null, { range: 0.2, sensitive: 0 });
    expect([...x].filter((_, i) => found[i])).toEqual([46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60]);
  });

  it('by sensitivity: strictly above the k-th, so that equal ones stay together', () => {
    const x = new Float32Array(100).map((_, i) => i / 100);
    const f = new Float32Array(100).map((_, i) => (i < 3 ? 9 : i < 10 ? 5 : 1));
    const only = (sensitive: number) => findOutliers(x, f, { share: sensitive, sensitive }).reduce((n, a) => n + a, 0);
    expect([only(0.02), only(0.03), only(0.05)]).toEqual([2, 3, 5]);
  });
});
