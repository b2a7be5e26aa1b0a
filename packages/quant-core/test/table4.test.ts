import { decode, encodeTable4, validate } from '@lmq/formats';
import { proxyLoss, table4, table4Linear } from '@lmq/quant-core';
import { createRng, isLmqError, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const [rows, cols] = [256, 256];
const rng = createRng(4);
const w = matrix(
  Float32Array.from({ length: rows * cols }, () => rng.normal()),
  rows,
  cols,
);

describe('table4', () => {
  // bitsandbytes tests/test_functional.py, for N(0, 1) and blocks of 64 and 128
  it.each([
    ['nf4', 64, 0.0728],
    ['nf4', 128, 0.07683],
    ['fp4', 64, 0.09654],
    ['fp4', 128, 0.10297],
  ] as const)('%s in blocks of %i: mean error of bitsandbytes', (table, blockSize, mean) => {
    const { weight, report } = table4(w, { table, blockSize });
    validate(weight);
    expect(weight).toEqual(encodeTable4(table, w, { blockSize }));
    const out = decode(weight).data;
    const error = w.data.reduce((sum, x, i) => sum + Math.abs(x - out[i]!), 0) / w.data.length;
    expect(Math.abs(error / mean - 1)).toBeLessThan(0.01);
    expect(report).toMatchObject({ method: table, bits: 4, groupSize: blockSize, symmetric: true });
    expect(report.doubleQuant).toBeUndefined();
  });

  it('quantizes scales, too: 4.127 bits and the table of the map', () => {
    const { weight, report } = table4(w, { table: 'nf4', doubleQuant: true });
    expect(weight.scales!.format).toBe('table8');
    expect(report.doubleQuant).toBe(true);
    expect(report.bitsPerWeight).toBeCloseTo(4 + 8 / 64 + 32 / (64 * 256) + (8 * (64 + 1024 + 4)) / w.data.length, 6);
    expect(report.relativeError).toBeLessThan(0.28);
  });

  it('keeps a linear and reports the proxy loss', () => {
    const h = matrix(new Float32Array(cols * cols), cols, cols);
    for (let i = 0; i < cols; i++) h.set(i, i, 1 + i);
    const bias = new Float32Array(rows);
    const { linear, report } = table4Linear(
      { weight: { kind: 'dense', shape: [rows, cols], format: 'fp32', data: w.data }, bias },
      { hessian: h },
      { table: 'fp4' },
    );
    expect(linear.bias).toBe(bias);
    expect(report.proxyLoss).toBe(proxyLoss(w, decode(linear.weight), h, { maxRows: 256 }).relative);
  });

  it('refuses unknown tables, block sizes that are none, and NaN', () => {
    const code = (run: () => unknown) => {
      try {
        run();
      } catch (e) {
        if (isLmqError(e)) return e.code;
      }
      return 'accepted';
    };
    expect(code(() => table4(w, { table: 'nf5' as 'nf4' }))).toBe('argument/option');
    expect(code(() => table4(w, { table: 'nf4', blockSize: 0 }))).toBe('argument/option');
    const bad = matrix(w.data.slice(), rows, cols);
    bad.data[9] = Number.POSITIVE_INFINITY;
    expect(code(() => table4(bad, { table: 'nf4' }))).toBe('argument/value');
  });
});
