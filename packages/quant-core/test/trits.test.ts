import { bitsPerWeight, decode, validate } from '@lmq/formats';
import { type AffineOpts, findParams, rtn } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const TRITS = { bits: 2, trits: true } as const;

function normal(rows: number, cols: number, seed: number): Matrix {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
}

describe('trits', () => {
  it.each([
    [{ granularity: 'tensor' }, 'lut', 2 + (4 * 32) / (6 * 64)],
    [{}, 'lut', 2 + (4 * 32) / 64],
    [{ groupSize: 16 }, 'parts', 2 + (4 * 32) / 16 + 32 / 6], // with the column numbers
    [{ granularity: 'tensor', symmetric: true }, 'lut', 2 + (4 * 32 + 16) / (6 * 64)],
    [{ symmetric: true }, 'lut', 2 + 16 / 64 + (4 * 32) / (6 * 64)],
    [{ symmetric: true, groupSize: 16 }, 'lut', 2 + 16 / 16 + (4 * 32) / (6 * 64)],
  ] as const)('%j: the nearest of three values, as %s', (grid, kind, bits) => {
    const w = normal(6, 64, 3);
    const { weight, report } = rtn(w, { ...TRITS, ...grid });
    validate(weight);
    expect(weight.kind).toBe(kind);
    expect(bitsPerWeight(weight)).toBeCloseTo(bits, 10);
    expect(report.bitsPerWeight).toBe(bitsPerWeight(weight));
    const { scales, zeroPoints, groups, rows } = findParams(w, { ...TRITS, ...grid });
    const got = decode(weight).data;
    let errors = 0;
    let norm = 0;
    for (let i = 0; i < got.length; i++) {
      const g = (rows === 1 ? 0 : Math.floor(i / 64) * groups) + Math.floor(((i % 64) * groups) / 64);
      const values = [0, scales[g]!, zeroPoints[g]!];
      expect(values).toContain(got[i]!);
      for (const v of values) expect(Math.abs(got[i]! - w.data[i]!)).toBeLessThanOrEqual(Math.abs(v - w.data[i]!));
      errors += (got[i]! - w.data[i]!) ** 2;
      norm += w.data[i]! ** 2;
    }
    expect(report.relativeError).toBeCloseTo(Math.sqrt(errors / norm), 12);
  });

  it('take the ends of the range, or what a clip makes of it', () => {
    const w = matrix(Float32Array.of(-1, 0.25, 4, 0.5), 1, 4);
    const at = (opts: Omit<AffineOpts, 'bits'>) => {
      const p = findParams(w, { ...TRITS, ...opts });
      return [p.zeroPoints[0], p.scales[0]];
    };
    expect(at({})).toEqual([-1, 4]);
    expect(at({ symmetric: true })).toEqual([-4, 4]);
    expect(at({ symmetric: true, clip: { method: 'percentile', percentile: 50 } })).toEqual([-0.75, 0.75]);
    const none = findParams(matrix(new Float32Array(4), 1, 4), TRITS);
    expect([none.zeroPoints[0], none.scales[0]]).toEqual([-1, 1]);
    const spread = normal(8, 128, 4);
    const loss = (clip: AffineOpts['clip']) => rtn(spread, { ...TRITS, clip }).report.relativeError;
    expect(loss('mse')).toBeLessThan(0.7 * loss('minmax')); // three values reach too far otherwise
  });

  it.each([
    [{ bits: 3, trits: true }, 'bits 3'],
    [{ bits: 2, trits: true, preset: 'awq' }, 'preset awq'],
    [{ bits: 2, trits: true, clip: { method: 'mse', adjacentZeroPoints: true } }, 'found trits'],
    [{ bits: 2, symmetric: true, clip: { method: 'mse', adjacentZeroPoints: true } }, 'found symmetric'],
  ] as const)('refuse %j', (opts, found) => {
    try {
      rtn(normal(2, 8, 1), opts as AffineOpts);
    } catch (e) {
      expect(isLmqError(e) && e.code).toBe('argument/option');
      expect((e as Error).message).toContain(found);
      return;
    }
    expect.fail('it took them');
  });
});
