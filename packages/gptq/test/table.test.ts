// GPTQ that rounds to NF4, FP4 and AF4.
import { BITSANDBYTES_FP4, decode, encodeTable4, NF4, unpackRows, validate } from '@lmq/formats';
import { gptq } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { table4 } from '@lmq/quant-core';
import { isLmqError, type Lut, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { correlated } from './_inputs.js';

/**
 * The greedy sweep in float64 by its definition: a column is rounded, the rest takes what makes up for it best, and the column leaves the inverse
 * Hessian by elimination. No factorization, no blocks. Scales are fitted when a group begins.
 */
function byDefinition(w: Matrix, h: Matrix, table: ArrayLike<number>, groupSize: number, damp: number): Uint8Array {
  const [rows, n] = w.shape as [number, number];
  let mean = 0;
  for (let i = 0; i < n; i++) mean += h.get(i, i) / n;
  const inverse = inverted(
    Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => h.get(i, j) + (i === j ? damp * mean : 0))),
  );
  const weights = Array.from({ length: rows }, (_, r) => Array.from({ length: n }, (_, c) => w.get(r, c)));
  const scales = new Float64Array(rows);
  const codes = new Uint8Array(rows * n);
  for (let c = 0; c < n; c++) {
    for (const [r, row] of weights.entries()) {
      if (c % groupSize === 0) scales[r] = Math.max(...row.slice(c, c + groupSize).map(Math.abs));
      const distances = Array.from(table, (t) => Math.abs(row[c]! - t * scales[r]!));
      const code = distances.indexOf(Math.min(...distances));
      codes[r * n + c] = code;
      const share = (row[c]! - table[code]! * scales[r]!) / inverse[c]![c]!;
      for (let j = c; j < n; j++) row[j]! -= share * inverse[c]![j]!;
    }
    const pivot = [...inverse[c]!];
    for (let i = c + 1; i < n; i++) for (let j = c; j < n; j++) inverse[i]![j]! -= (pivot[i]! * pivot[j]!) / pivot[c]!;
  }
  return codes;
}

/** Gauss and Jordan. */
function inverted(a: number[][]): number[][] {
  const n = a.length;
  const both = a.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let c = 0; c < n; c++) {
    const pivot = both[c]!.map((v) => v / both[c]![c]!);
    for (const [i, row] of both.entries()) both[i] = i === c ? pivot : row.map((v, j) => v - row[c]! * pivot[j]!);
  }
  return both.map((row) => row.slice(n));
}

describe('GPTQ with a table', () => {
  it.each([
    ['nf4', NF4, 16],
    ['fp4', BITSANDBYTES_FP4, 32],
  ] as const)('%s is the sweep by its definition', async (table, values, groupSize) => {
    const { w, h } = correlated(16, 64, 3);
    const want = byDefinition(w, h, values, groupSize, 0.01);
    for (const backend of [undefined, await wasmBackend()]) {
      const { weight, report } = await gptq(w, h, { bits: 4, table, groupSize, blockSize: 24, backend });
      validate(weight);
      expect(weight).toMatchObject({ kind: 'lut', bits: 4, tablePer: 'tensor', scales: { block: { flat: groupSize }, format: 'fp32' } });
      const found = unpackRows((weight as Lut).codes, 4, 16, 64);
      let same = 0;
      for (let i = 0; i < found.length; i++) if (found[i] === want[i] || values[found[i]!] === values[want[i]!]) same++;
      expect(same / found.length).toBeGreaterThan(0.99); // float32: a value between two codes may fall to the other side, and its row follows
      expect(report).toMatchObject({ method: 'gptq', table, bits: 4, groupSize, fallback: null, bitsPerWeight: 4 + 32 / groupSize + 0.5 });
    }
  });

  it.each(['nf4', 'fp4', 'af4'] as const)('%s: rounds to nearest when inputs are white', async (table) => {
    const { w } = correlated(24, 96, 1);
    const identity = matrix(new Float32Array(96 * 96), 96, 96);
    for (let i = 0; i < 96; i++) identity.set(i, i, 3);
    for (const groupSize of [32, -1]) {
      const { weight } = await gptq(w, identity, { bits: 4, table, groupSize });
      const nearest = encodeTable4(table, w, { blockSize: groupSize < 0 ? 96 : groupSize });
      const values = (t: Lut) => decode(t).data.map((v) => v + 0); // FP4 has two codes for zero
      expect(values(weight as Lut)).toEqual(values(nearest));
      expect((weight as Lut).scales).toEqual(nearest.scales);
    }
  });

  it('loses less than plain NF4, by columns in any order that groups allow', async () => {
    const { w, h } = correlated(32, 192, 2);
    const nearest = table4(w, { table: 'nf4', blockSize: 64, hessian: h }).report.proxyLoss!;
    for (const order of [{}, { groupAware: true }, { staticGroups: true }, { actOrder: true, staticGroups: true }]) {
      const { weight, report } = await gptq(w, h, { bits: 4, table: 'nf4', groupSize: 64, ...order });
      expect(report.proxyLoss).toBeLessThan(0.6 * nearest);
      if (order.staticGroups) expect((weight as Lut).scales!.data).toEqual(encodeTable4('nf4', w).scales!.data); // those of the weights as they were
    }
  });

  it('is plain NF4 where the Hessian cannot be factored', async () => {
    const { w } = correlated(8, 32, 2);
    const h = matrix(new Float32Array(32 * 32).fill(-1), 32, 32);
    const { weight, report } = await gptq(w, h, { bits: 4, table: 'nf4', groupSize: 16, dampIncrement: 0 });
    expect(report.fallback).toBe('rtn');
    expect(weight).toEqual(encodeTable4('nf4', w, { blockSize: 16 }));
    expect(decode(weight).shape).toEqual([8, 32]);
  });

  it.each([
    [{ bits: 3 }],
    [{ symmetric: true }],
    [{ trits: true }],
    [{ clip: 'mse' as const }],
    [{ scaleFormat: 'fp16' as const }],
    [{ actOrder: true }],
    [{ actOrder: true, staticGroups: 'ordered' as const }],
    [{ table: 'nf5' as 'nf4' }],
  ])('refuses %j', async (change) => {
    const { w, h } = correlated(4, 32, 1);
    const failure = await gptq(w, h, { bits: 4, table: 'nf4', groupSize: 16, ...change }).catch((e) => e);
    expect(isLmqError(failure) && failure.code).toBe('argument/option');
  });
});
