import { awqClip, awqScales, foldIntoColumns, foldIntoRows, foldIntoVector, SMOOTHQUANT_ALPHA, smoothQuant } from '@lmq/equalize';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createRng, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { glu, largest, mean, multiply, perChannel, secondMoment } from './_inputs.js';

const rng = createRng(7);
const normal = (rows: number, cols: number, gain: (c: number) => number = () => 1) => {
  const data = Float32Array.from({ length: rows * cols }, (_, i) => rng.normal() * gain(i % cols));
  return matrix(data, rows, cols);
};
const relative = (a: Matrix, b: Matrix) =>
  Math.sqrt(a.data.reduce((n, v, i) => n + (v - b.data[i]!) ** 2, 0) / b.data.reduce((n, v) => n + v * v, 0));
const backend = await wasmBackend();
const grid = { bits: 4, groupSize: 32, preset: 'awq' as const };

describe('folding', () => {
  const scales = Float32Array.from({ length: 24 }, () => Math.exp(rng.normal()));

  it('between a norm and linears keeps the outputs, for both ways to store a norm', () => {
    const x = normal(5, 24);
    const norm = normal(1, 24);
    const w = normal(8, 24);
    const through = (weight: Float32Array, plus: number, linear: Matrix) =>
      multiply(
        matrix(
          x.data.map((v, i) => v * (weight[i % 24]! + plus)),
          5,
          24,
        ),
        linear,
      );
    for (const plusOne of [false, true]) {
      const plus = plusOne ? 1 : 0;
      const after = through(foldIntoVector(norm.data, scales, { plusOne }), plus, foldIntoColumns(w, scales));
      expect(relative(after, through(norm.data, plus, w))).toBeLessThan(1e-6);
    }
  });

  it('between up and down keeps the outputs of a gated MLP', () => {
    const x = normal(5, 16);
    const [gate, up, down] = [normal(24, 16), normal(24, 16), normal(16, 24)];
    const after = multiply(glu(x, gate, foldIntoRows(up, scales)), foldIntoColumns(down, scales));
    expect(relative(after, multiply(glu(x, gate, up), down))).toBeLessThan(1e-6);
  });

  it('takes views and leaves them as they are', () => {
    const w = normal(8, 24);
    const before = w.data.slice();
    const view = w.lo(0, 4).hi(8, 12);
    const out = foldIntoColumns(view, scales.subarray(0, 12));
    expect(out.data[13]).toBe(Math.fround(w.data[24 + 5]! * scales[1]!));
    expect(w.data).toEqual(before);
  });

  it('refuses scales that are not scales', () => {
    const w = normal(2, 3);
    expect(() => foldIntoColumns(w, [1, 2])).toThrow(/do not fit.*expected 3; found 2/);
    expect(() => foldIntoColumns(w, [1, 0, 1])).toThrow(/not positive and finite.*channel 1/);
    expect(() => foldIntoRows(w, [1, Number.NaN])).toThrow(/channel 1/);
    expect(() => foldIntoVector([3e38], [1e-3])).toThrow(/scaled weight is not finite/);
  });
});

describe('AWQ', () => {
  /** A few channels a hundred times as large as the others, whose weights are as much smaller: what hides in models. */
  const planted = (channels: number[]) => {
    const gain = (c: number) => (channels.includes(c) ? 100 : 1);
    const x = normal(256, 64, gain);
    return { x, w: normal(48, 64, (c) => 1 / gain(c)) };
  };

  it('finds planted channels: the error of the output falls to a fraction', async () => {
    const { x, w } = planted([3, 40]);
    const stats = { meanAbs: perChannel(x, mean), hessian: secondMoment(x) };
    for (const duoScaling of [false, true]) {
      const { scales, report } = await awqScales({ linears: [{ weight: w, grid }], stats }, { duoScaling, backend });
      expect(report.error).toBeLessThan(report.plainError! / 4);
      expect(scales[3]! / scales[0]!).toBeGreaterThan(5);
    }
  });

  it('is never worse than plain rounding on what it looks at', async () => {
    for (let i = 0; i < 4; i++) {
      const x = normal(128, 32, (c) => Math.exp(Math.sin(i + c)));
      const stats = { meanAbs: perChannel(x, mean), hessian: secondMoment(x) };
      const linears = [{ weight: normal(16, 32), grid: { ...grid, bits: 2 + i } }];
      for (const duoScaling of [false, true]) {
        const { report } = await awqScales({ linears, stats }, { duoScaling });
        expect(report.error).toBeLessThanOrEqual(report.plainError!);
      }
    }
  });

  it('judges wide linears as their outputs do, though it looks at half of the Hessian', async () => {
    const [x, w] = [normal(16, 1100, (c) => 1 + (c % 7)), normal(64, 1100)]; // three blocks of columns
    const linears = [{ weight: w, grid: { ...grid, groupSize: 100 } }];
    const [meanAbs, hessian, target] = [perChannel(x, mean), secondMoment(x), multiply(x, w)];
    const byHessian = await awqScales({ linears, stats: { meanAbs, hessian } }, { backend, grid: 4 });
    const outputError = async ([rounded]: readonly Matrix[]) => relative(multiply(x, rounded!), target) ** 2;
    const byOutputs = await awqScales({ linears, stats: { meanAbs }, outputError }, { backend, grid: 4 });
    expect(byHessian.scales).toEqual(byOutputs.scales);
    expect(byHessian.report.error / byOutputs.report.error).toBeCloseTo(1, 4);
    expect(byHessian.report.plainError! / byOutputs.report.plainError!).toBeCloseTo(1, 4);
  });

  it('leaves linears without a grid as they are, and asks about all of them', async () => {
    const { x, w } = planted([1]);
    const router = normal(4, 64);
    let seen = 0;
    await awqScales({ linears: [{ weight: router }, { weight: w, grid }], stats: { meanAbs: perChannel(x, mean) } }, {}).catch((e) =>
      expect(String(e)).toMatch(/nothing to judge by/),
    );
    await awqScales({
      linears: [{ weight: router }, { weight: w, grid }],
      stats: { meanAbs: perChannel(x, mean) },
      outputError: async ([a, b]) => {
        expect(a!.data).toEqual(router.data);
        expect(b!.data).not.toEqual(w.data);
        return ++seen;
      },
    });
    expect(seen).toBe(20);
  });

  it('keeps channels that never fired at 1, and the others as without them', async () => {
    const { x, w } = planted([3]);
    for (let t = 0; t < 256; t++) x.data[t * 64 + 9] = 0;
    const group = { linears: [{ weight: w, grid }], stats: { meanAbs: perChannel(x, mean), hessian: secondMoment(x) } };
    const ours = await awqScales(group, { backend });
    expect(ours.scales[9]).toBe(1);
    expect(Math.max(...ours.scales) * Math.min(...ours.scales)).toBeCloseTo(1, 5);
    const theirs = await awqScales(group, { backend, referenceCompat: true });
    expect(Math.min(...theirs.scales)).toBe(theirs.scales[9]);
  });

  it('clips less than half, never for the worse, and in the units of the scaled input', async () => {
    const { x, w } = planted([3]);
    const h = secondMoment(x);
    const plain = await awqClip(w, h, { grid: { ...grid, bits: 3 } });
    expect(plain.report.relativeError).toBeLessThan(1);
    expect(plain.report.clipped).toBeGreaterThan(0);
    const scales = Float32Array.from({ length: 64 }, (_, c) => 2 ** ((c % 5) - 2));
    const divided = matrix(
      x.data.map((v, i) => v / scales[i % 64]!),
      256,
      64,
    );
    const scaled = foldIntoColumns(w, scales);
    const a = await awqClip(scaled, h, { grid, scales });
    const b = await awqClip(scaled, secondMoment(divided), { grid });
    expect(a.maxima.data).toEqual(b.maxima.data);
  });

  it('refuses what it cannot judge', async () => {
    const stats = { meanAbs: new Float32Array(64).fill(1), hessian: normal(64, 64) };
    const weight = normal(4, 64);
    const of = (o: object, opts = {}) => awqScales({ linears: [{ weight, grid }], stats, ...o }, opts);
    await expect(of({ linears: [] })).rejects.toThrow(/no linear/);
    await expect(of({ linears: [{ weight }] })).rejects.toThrow(/no linear of the group will be quantized/);
    await expect(
      of({
        linears: [
          { weight, grid },
          { weight: normal(4, 32), grid },
        ],
      }),
    ).rejects.toThrow(/differ in width/);
    await expect(of({ stats: { ...stats, meanAbs: [1] } })).rejects.toThrow(/do not fit/);
    await expect(of({ stats: { ...stats, meanAbs: new Float32Array(64).fill(Number.NaN) } })).rejects.toThrow(/NaN in channel 0/);
    await expect(of({ outputError: async () => Number.NaN })).rejects.toThrow(/not finite/);
    await expect(of({ linears: [{ weight, grid: { bits: 2, trits: true } }] })).rejects.toThrow(/trits/);
    await expect(of({}, { grid: 0 })).rejects.toThrow(/grid is out of range/);
    await expect(awqClip(weight, normal(32, 32), { grid })).rejects.toThrow(/Hessian does not fit/);
    await expect(awqClip(weight, normal(64, 64), { grid, scales: new Float32Array(64) })).rejects.toThrow(/scale is zero/);
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    await expect(of({}, { signal: stop.signal })).rejects.toThrow('enough');
  });
});

describe('SmoothQuant', () => {
  /** The outputs with weights rounded per row and inputs per token, to 8 bits. */
  const int8 = (x: Matrix, w: Matrix) => multiply(round8(x), round8(w));
  const round8 = (m: Matrix) => {
    const cols = m.shape[1]!;
    const out = m.data.slice();
    for (let at = 0; at < out.length; at += cols) {
      const row = out.subarray(at, at + cols);
      const scale = largest([...row].map(Math.abs)) / 127;
      for (let c = 0; c < cols; c++) row[c] = Math.round(row[c]! / scale) * scale;
    }
    return matrix(out, m.shape[0]!, cols);
  };

  it('recovers what 8 bits lose to a few large channels; a search finds the best α', async () => {
    // How much each channel counts for the outputs is alike, so that the small ones matter.
    const absMax = Float32Array.from({ length: 768 }, (_, c) => (c % 128 === 5 ? 25 : 1 + Math.sin(c) / 2));
    const x = normal(96, absMax.length, (c) => absMax[c]! / 3);
    const w = normal(32, absMax.length, (c) => 1 / Math.max(absMax[c]!, 0.1));
    const exact = multiply(x, w);
    const naive = relative(int8(x, w), exact);
    const group = { linears: [w], stats: { absMax: perChannel(x, largest), sample: x } };
    const after = async (scales: Float32Array) =>
      relative(
        int8(
          foldIntoColumns(
            x,
            scales.map((v) => 1 / v),
          ),
          foldIntoColumns(w, scales),
        ),
        exact,
      );
    const fixed = await smoothQuant(group, { alpha: SMOOTHQUANT_ALPHA.opt });
    const searched = await smoothQuant(group, { alpha: 'search', backend });
    expect(naive).toBeGreaterThan(0.05); // a linear in float32 has 1e-7, in 8 bits without outliers 0.01
    expect(await after(fixed.scales)).toBeLessThan(naive / 4);
    expect(await after(searched.scales)).toBeLessThanOrEqual((await after(fixed.scales)) * 1.001);
    expect(Math.sqrt(searched.report.error!)).toBeCloseTo(await after(searched.scales), 3);
    expect(Math.sqrt(searched.report.plainError!)).toBeCloseTo(naive, 3);
  });

  it('keeps channels that never fired at 1', async () => {
    const group = { linears: [normal(4, 3)], stats: { absMax: [1, 0, 2] } };
    expect((await smoothQuant(group)).scales[1]).toBe(1);
    expect((await smoothQuant(group, { referenceCompat: true })).scales[1]).toBe(Math.fround(1e-5));
  });

  it('refuses what it cannot use', async () => {
    const group = { linears: [normal(4, 3)], stats: { absMax: [1, 1, 2] } };
    await expect(smoothQuant(group, { alpha: 1.5 })).rejects.toThrow(/alpha is out of range/);
    await expect(smoothQuant(group, { alpha: 'search' })).rejects.toThrow(/sample/);
    await expect(smoothQuant({ ...group, stats: { absMax: [1, -1, 2] } })).rejects.toThrow(/-1 in channel 1/);
    await expect(smoothQuant({ ...group, stats: { absMax: [1] } })).rejects.toThrow(/do not fit/);
    const sampled = { ...group, stats: { ...group.stats, sample: normal(2, 4) } };
    await expect(smoothQuant(sampled, { alpha: 'search' })).rejects.toThrow(/sample does not fit/);
  });
});
