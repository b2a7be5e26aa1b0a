import { decode, scaleValues, unpackRows, validate, zeroPointValues } from '@lmq/formats';
import { jsBackend } from '@lmq/kernels-js';
import { type AffineOpts, findParams, rtn } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix, ndarray } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const f = Math.fround;

function normal(rows: number, cols: number, seed: number): Matrix {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
}

function refusal(run: () => unknown): { code: string; message: string } {
  try {
    run();
  } catch (e) {
    if (isLmqError(e)) return e;
    throw e;
  }
  return { code: 'accepted', message: '' };
}

describe('findParams', () => {
  it('fits tensors, rows and groups', () => {
    const w = normal(4, 12, 1);
    expect(findParams(w, { bits: 4, granularity: 'tensor' })).toMatchObject({ rows: 1, groups: 1 });
    expect(findParams(w, { bits: 4 })).toMatchObject({ rows: 4, groups: 1 });
    const g = findParams(w, { bits: 4, groupSize: 4, scaleFormat: 'fp32' });
    expect([g.rows, g.groups, g.scales.length]).toEqual([4, 3, 12]);
    const block = [...w.data.slice(12 + 8, 12 + 12)]; // row 1, group 2
    expect(g.scales[5]).toBe(f(f(Math.max(...block, 0) - Math.min(...block, 0)) / 15));
    const whole = [...w.data];
    const t = findParams(w, { bits: 4, granularity: 'tensor', scaleFormat: 'fp32' });
    expect(t.scales[0]).toBe(f(f(Math.max(...whole) - Math.min(...whole)) / 15));
  });

  it('reads any strides', () => {
    const w = normal(6, 8, 2);
    const turned = new Float32Array(100);
    for (let r = 0; r < 6; r++) for (let c = 0; c < 8; c++) turned[3 + c * 7 + r] = w.data[r * 8 + c]!;
    const view = ndarray(turned, [6, 8], [1, 7], 3);
    const opts: AffineOpts = { bits: 3, groupSize: 4, clip: 'mse' };
    expect(findParams(view, opts)).toEqual(findParams(w, opts));
    expect(rtn(view, opts).weight).toEqual(rtn(w, opts).weight);
    expect(rtn(ndarray(w.data.subarray(0, 8)), opts).weight.shape).toEqual([1, 8]);
  });

  it('stores what it uses: scales have their format’s precision', () => {
    const w = normal(4, 64, 3);
    for (const scaleFormat of ['fp16', 'bf16', 'fp32'] as const) {
      const p = findParams(w, { bits: 4, groupSize: 16, scaleFormat });
      const { weight } = rtn(w, { bits: 4, groupSize: 16, scaleFormat });
      expect(scaleValues(weight.scales)).toEqual(p.scales);
      expect([...zeroPointValues(weight, 0, 16)]).toEqual([...p.zeroPoints]);
    }
  });

  it('never has a zero scale, and refuses one that overflows', () => {
    const tiny = matrix(Float32Array.of(1e-12, -1e-12), 1, 2);
    expect(findParams(tiny, { bits: 4, symmetric: true }).scales[0]).toBe(2 ** -24);
    const huge = matrix(Float32Array.of(1e30, 0), 1, 2);
    expect(refusal(() => findParams(huge, { bits: 4 }))).toMatchObject({ code: 'argument/value' });
    expect(findParams(huge, { bits: 4, scaleFormat: 'bf16' }).scales[0]).toBeGreaterThan(6e28);
  });

  it('names the divisors when groupSize does not fit', () => {
    const e = refusal(() => findParams(normal(2, 96, 4), { bits: 4, groupSize: 64 }));
    expect(e.code).toBe('argument/option');
    expect(e.message).toContain('16, 24, 32, 48, 96');
    expect(e.message).toContain('-1');
  });

  it('refuses wrong options', () => {
    const w = normal(2, 8, 5);
    const bad: Record<string, unknown>[] = [
      { bits: 0 },
      { bits: 4.5 },
      { bits: 4, groupSize: 0 },
      { bits: 4, groupSize: 16 },
      { bits: 4, groupSize: 4, granularity: 'channel' },
      { bits: 4, granularity: 'group' },
      { bits: 4, granularity: 'row' },
      { bits: 4, scaleFormat: 'fp8' },
      { bits: 4, clip: { method: 'mse', norm: 0 } },
      { bits: 4, clip: { method: 'mse', grid: 0 } },
      { bits: 4, clip: { method: 'mse', maxShrink: 2 } },
    ];
    for (const o of bad) expect(refusal(() => findParams(w, o as unknown as AffineOpts)).code, JSON.stringify(o)).toBe('argument/option');
    expect(refusal(() => rtn(matrix(new Float32Array(0), 0, 4), { bits: 4 })).code).toBe('argument/shape');
  });
});

describe('mse search', () => {
  /** The search as the source states it, one group, squared in plain numbers. */
  function search(w: number[], bits: number, norm: number): number {
    const maxCode = 2 ** bits - 1;
    const lo = Math.min(...w, 0);
    const hi = Math.max(...w, 0);
    let best = Number.POSITIVE_INFINITY;
    let at = 0;
    for (let i = 0; i < 80; i++) {
      const p = f(1 - i / 100);
      const scale = f(f(f(p * hi) - f(p * lo)) / maxCode);
      const zero = roundEven(f(-f(p * lo) / scale));
      const error = w.reduce((s, v) => {
        const code = Math.min(Math.max(roundEven(f(v / scale)) + zero, 0), maxCode);
        return s + Math.abs(f((code - zero) * scale) - v) ** norm;
      }, 0);
      if (error < best) [best, at] = [error, scale];
    }
    return at;
  }
  const roundEven = (x: number) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

  for (const norm of [2, 2.4, 3.5]) {
    it(`finds the best of 80 candidates for exponent ${norm}`, () => {
      const w = normal(40, 32, 6);
      for (const bits of [2, 3, 4]) {
        const { scales } = findParams(w, { bits, clip: { method: 'mse', norm }, scaleFormat: 'fp32' });
        for (let r = 0; r < 40; r++) expect(scales[r]).toBe(search([...w.data.slice(r * 32, r * 32 + 32)], bits, norm));
      }
    });
  }

  it('lowers the squared error', () => {
    const w = normal(32, 128, 7);
    for (const preset of ['gptq', 'awq', 'auto-round', 'gguf'] as const) {
      const base = { bits: 3, groupSize: 32, symmetric: true, preset };
      expect(rtn(w, { ...base, clip: { method: 'mse', norm: 2 } }).report.relativeError).toBeLessThan(rtn(w, base).report.relativeError);
    }
  });
});

describe('rtn', () => {
  it('takes the codes of a backend’s quantizer', async () => {
    const w = normal(16, 64, 8);
    const opts = { bits: 4, groupSize: 16 };
    const { weight } = rtn(w, opts);
    const p = findParams(w, opts);
    const s = jsBackend().scope();
    const codes = s.alloc(16, 64, 'u8');
    const grid = { scales: s.upload(matrix(p.scales, 16, 4)), zeroPoints: s.upload(matrix(p.zeroPoints, 16, 4)), bits: 4 };
    const values = s.fakeQuant(s.upload(w), grid, 16, codes);
    expect(unpackRows(weight.codes, 4, 16, 64)).toEqual((await s.readCodes(codes)).data);
    expect(decode(weight).data).toEqual((await s.read(values)).data);
    s.dispose();
  });

  it('is within half a step inside the grid, at every width', () => {
    const w = normal(8, 64, 9);
    for (let bits = 1; bits <= 8; bits++) {
      // asymmetric gptq covers the whole range; rounding the zero point costs up to half a step more at its ends
      const { weight, report } = rtn(w, { bits, groupSize: 16, scaleFormat: 'fp32' });
      validate(weight);
      const { data } = decode(weight);
      const scales = scaleValues(weight.scales);
      for (let i = 0; i < data.length; i++)
        expect(Math.abs(data[i]! - w.data[i]!)).toBeLessThanOrEqual(scales[Math.floor(i / 16)]! * 1.0001);
      expect(report.bitsPerWeight).toBe(bits + (32 + bits) / 16);
    }
  });

  it('is exact on its own grid', () => {
    const w = matrix(
      Float32Array.from({ length: 64 }, (_, i) => ((i * 7) % 16) * 0.25 - 1.75),
      4,
      16,
    );
    expect(rtn(w, { bits: 4, groupSize: 16 }).report.relativeError).toBe(0);
  });

  it('rounds half to even', () => {
    // scale 1, zero 8: ±0.5, ±1.5, ±2.5 and the ends that make the scale
    const w = matrix(Float32Array.of(-7.5, 7.5, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5), 1, 8);
    expect([...decode(rtn(w, { bits: 4, symmetric: true }).weight).data]).toEqual([-8, 7, 0, 2, 2, 0, -2, -2]);
  });

  it('has one scale for a whole tensor when asked', () => {
    const { weight } = rtn(normal(4, 8, 10), { bits: 4, granularity: 'tensor' });
    expect(weight.scales.block).toEqual([4, 8]);
    expect(weight.scales.data.length).toBe(1);
    validate(weight);
  });

  it('names weights that are not finite', () => {
    const w = normal(4, 8, 11);
    w.data[13] = Number.NaN;
    w.data[21] = Number.NEGATIVE_INFINITY;
    const e = refusal(() => rtn(w, { bits: 4 }));
    expect(e.code).toBe('argument/value');
    expect(e.message).toContain('2 values');
    expect(e.message).toContain('NaN at [1, 5]');
  });
});
