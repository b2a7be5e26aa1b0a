import { unpackRows } from '@lmq/formats';
import { type GptqOpts, gptq } from '@lmq/gptq';
import { findParams } from '@lmq/quant-core';
import type { Matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { correlated } from './_inputs.js';

/** Upper U with H⁻¹ = Uᵀ U, in double: the Cholesky factor of the reversed H, inverted and reversed again. */
function factorOf(h: Matrix, damp: number): Float64Array {
  const n = h.shape[0]!;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += h.data[i * n + i]! / n;
  const a = (i: number, j: number) => h.data[(n - 1 - i) * n + n - 1 - j]! + (i === j ? damp * mean : 0);
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a(i, j);
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  }
  const inverse = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = i === j ? 1 : 0;
      for (let k = j; k < i; k++) sum -= l[i * n + k]! * inverse[k * n + j]!;
      inverse[i * n + j] = sum / l[i * n + i]!;
    }
  }
  return Float64Array.from({ length: n * n }, (_, at) => inverse[(n - 1 - Math.floor(at / n)) * n + n - 1 - (at % n)]!);
}

const even = (x: number) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** The published rule, column by column in double; `block`: nothing is taken back from the first column of each. */
function published(w: Matrix, h: Matrix, bits: number, beta: number, block: number): { codes: number[]; loss: number } {
  const [rows, n] = w.shape as [number, number];
  const u = factorOf(h, 0.01);
  const { scales, zeroPoints } = findParams(w, { bits });
  const codes: number[] = [];
  let loss = 0;
  for (let r = 0; r < rows; r++) {
    const row = Float64Array.from(w.data.subarray(r * n, r * n + n));
    for (let i = 0; i < n; i++) {
      const raw = w.data[r * n + i]!;
      if (i % block !== 0) row[i]! -= beta * (row[i]! - raw);
      const d = u[i * n + i]!;
      const code = Math.min(Math.max(even(row[i]! / scales[r]!) + zeroPoints[r]!, 0), 2 ** bits - 1);
      codes.push(code);
      const q = (code - zeroPoints[r]!) * scales[r]!;
      loss += (row[i]! - q) ** 2 / d ** 2 / 2;
      const e = (row[i]! - q - beta * (row[i]! - raw)) / d;
      for (let j = i + 1; j < n; j++) row[j]! -= e * u[i * n + j]!;
    }
  }
  return { codes, loss };
}

const run = async (w: Matrix, h: Matrix, opts: GptqOpts & { trits?: false; table?: undefined }) => {
  const { weight, report } = await gptq(w, h, opts);
  return { codes: unpackRows(weight.codes, opts.bits, ...weight.shape), loss: report.loss! };
};
const agreement = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).filter((v, i) => v === b[i]).length / a.length;

// float32 against double: a weight near a rounding tie may flip, and a flip moves the rest of its row
describe('foem', () => {
  for (const beta of [0.2, 0.6]) {
    it(`takes back ${beta} of what was added, column by column`, async () => {
      const { w, h } = correlated(24, 160, 1); // wider than a tile of the transformation
      for (const [opts, block] of [
        [{}, 1000],
        [{ blockSize: 7 }, 1000],
        [{ blockSize: 32, referenceCompat: true }, 32],
      ] as const) {
        const want = published(w, h, 3, beta, block);
        const got = await run(w, h, { bits: 3, foem: { beta }, ...opts });
        expect(agreement(got.codes, want.codes)).toBeGreaterThan(0.995);
        expect(Math.abs(got.loss / want.loss - 1)).toBeLessThan(0.005);
      }
      expect(agreement(published(w, h, 3, beta, 32).codes, published(w, h, 3, beta, 1000).codes)).toBeLessThan(0.99);
      const plain = await run(w, h, { bits: 3 });
      expect(agreement(plain.codes, published(w, h, 3, beta, 1000).codes)).toBeLessThan(0.95);
    });
  }

  it('is gptq at beta 0, and rounding to nearest in effect at beta 1', async () => {
    const { w, h } = correlated(8, 64, 2);
    for (const grid of [{}, { groupSize: 16, actOrder: true }]) {
      const plain = await run(w, h, { bits: 3, ...grid });
      expect(agreement((await run(w, h, { bits: 3, ...grid, foem: { beta: 0 } })).codes, plain.codes)).toBe(1);
    }
    const { scales, zeroPoints } = findParams(w, { bits: 3 });
    const nearest = w.data.map((v, i) => {
      const r = Math.floor(i / 64);
      return Math.min(Math.max(even(Math.fround(v / scales[r]!)) + zeroPoints[r]!, 0), 7);
    });
    expect(agreement((await run(w, h, { bits: 3, foem: { beta: 1 } })).codes, nearest)).toBe(1);
    expect(await run(w, h, { bits: 3, foem: {} })).toEqual(await run(w, h, { bits: 3, foem: { beta: 0.2 } }));
  });

  it('refuses what does not fit', async () => {
    const { w, h } = correlated(4, 16, 3);
    for (const opts of [{ foem: { beta: -0.1 } }, { foem: { beta: Number.NaN } }, { foem: {}, gptaq: { crossTerm: h } }])
      await expect(gptq(w, h, { bits: 4, ...opts })).rejects.toMatchObject({ code: 'argument/option' });
  });
});
