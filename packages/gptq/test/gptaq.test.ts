import { decode, unpackRows } from '@lmq/formats';
import { type GptqOpts, gptq } from '@lmq/gptq';
import { jsBackend } from '@lmq/kernels-js';
import { createCrossTerm, createHessian } from '@lmq/quant-core';
import { createRng, type Matrix, matrix, type Tensor } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { correlated } from './_inputs.js';

/** A layer after quantized ones: its inputs `x`, and `far`, which the float model would have given it. */
async function degraded(rows: number, cols: number, seed: number) {
  const { w, x: far } = correlated(rows, cols, seed, 4 * cols);
  const rng = createRng(seed + 1000);
  // Part of the error is a mix of channels, as of a quantized layer before, and part is noise.
  const mix = Float64Array.from({ length: cols * cols }, () => (0.15 * rng.normal()) / Math.sqrt(cols));
  const x = matrix(far.data.slice(), 4 * cols, cols);
  for (let t = 0; t < 4 * cols; t++) {
    for (let i = 0; i < cols; i++) {
      let shift = 0.02 * rng.normal();
      for (let j = 0; j < cols; j++) shift += mix[i * cols + j]! * far.data[t * cols + j]!;
      x.data[t * cols + i]! += shift;
    }
  }
  const s = jsBackend().scope();
  const hessian = createHessian(s.backend, cols);
  const cross = createCrossTerm(s.backend, cols);
  hessian.add(s.upload(x));
  cross.add(s.upload(far), s.upload(x));
  return { w, x, far, h: await hessian.read(), crossTerm: await cross.read(), hessian, cross };
}

/** ‖X̃ Wᵀ − X Ŵᵀ‖² in float64. */
function distance(far: Matrix, w: Tensor, x: Matrix, decoded: Tensor): number {
  const [rows, cols] = w.shape as [number, number];
  let sum = 0;
  for (let t = 0; t < far.shape[0]!; t++) {
    for (let r = 0; r < rows; r++) {
      let d = 0;
      for (let c = 0; c < cols; c++)
        d += far.data[t * cols + c]! * w.data[r * cols + c]! - x.data[t * cols + c]! * decoded.data[r * cols + c]!;
      sum += d * d;
    }
  }
  return sum;
}

describe('gptaq', () => {
  const grids: Omit<GptqOpts, 'bits'>[] = [{}, { groupSize: 32 }, { groupSize: 32, groupAware: true }, { groupSize: 32, actOrder: true }];
  for (const grid of grids) {
    it(`comes closer to the float model than gptq: ${JSON.stringify(grid)}`, async () => {
      const { w, x, far, h, crossTerm } = await degraded(16, 96, 1);
      const at = async (alpha: number) => {
        const { weight, report } = await gptq(w, h, { bits: 4, ...grid, gptaq: { crossTerm, alpha } });
        return { error: distance(far, w, x, decode(weight)), report };
      };
      const [none, some, all] = [await at(0), await at(0.25), await at(1)];
      expect(some.error).toBeLessThan(0.95 * none.error);
      expect(all.error).toBeLessThan(some.error);
      // What the report says is the same without the part that no weights change; 2 / sequences with one sequence.
      const rest = distance(far, w, x, w);
      const scale = distance(matrix(new Float32Array(far.data.length), far.shape[0]!, 96), w, x, w);
      for (const { error, report } of [none, some, all]) expect(report.asymmetricLoss!).toBeCloseTo((error - rest) / scale, 4);
    });
  }

  it('is gptq to the byte at alpha 0, and without a difference', async () => {
    const { w, h, crossTerm } = await degraded(8, 64, 2);
    for (const grid of [{}, { groupSize: 16, actOrder: true }, { groupSize: 16, referenceCompat: true }]) {
      const plain = await gptq(w, h, { bits: 3, ...grid });
      expect(plain.report.asymmetricLoss).toBeUndefined();
      expect((await gptq(w, h, { bits: 3, ...grid, gptaq: { crossTerm, alpha: 0 } })).weight).toEqual(plain.weight);
      const none = matrix(new Float32Array(64 * 64), 64, 64);
      expect((await gptq(w, h, { bits: 3, ...grid, gptaq: { crossTerm: none } })).weight).toEqual(plain.weight);
    }
  });

  // Blocks only reorder float additions: a weight on a rounding tie may flip, and moves the rest of its row.
  it('depends on the block size only as published', async () => {
    const { w, h, crossTerm } = await degraded(32, 192, 3); // wider than a tile of the transformation
    const codes = async (o: Omit<GptqOpts, 'bits' | 'trits' | 'table'>) => {
      const { weight } = await gptq(w, h, { bits: 4, groupSize: 64, gptaq: { crossTerm, alpha: 1 }, ...o });
      return unpackRows(weight.codes, 4, 32, 192);
    };
    const agreement = (a: Uint8Array, b: Uint8Array) => a.reduce((n, v, i) => n + (v === b[i] ? 1 : 0), 0) / a.length;
    const one = await codes({});
    for (const blockSize of [1, 16, 512]) expect(agreement(one, await codes({ blockSize }))).toBeGreaterThan(0.998);
    const published = { referenceCompat: true, staticGroups: true };
    const wide = await codes(published);
    expect(agreement(wide, await codes({ staticGroups: true, blockSize: 512 }))).toBeLessThan(0.995);
    expect(agreement(await codes({ ...published, blockSize: 512 }), await codes({ staticGroups: true, blockSize: 512 }))).toBe(1);
  });

  it('takes handles, read or summed, and changes nothing', async () => {
    const { w, h, crossTerm, hessian, cross } = await degraded(8, 64, 4);
    const before = crossTerm.data.slice();
    const { backend } = hessian;
    for (const grid of [{}, { groupSize: 16, actOrder: true }]) {
      const opts: GptqOpts = { bits: 3, ...grid, backend };
      const want = (await gptq(w, h, { ...opts, gptaq: { crossTerm } })).weight;
      // one sequence: read() is twice the sum, exactly, and the factor changes no result
      const got = await gptq(w, hessian.sum, { ...opts, gptaq: { crossTerm: cross.sum } });
      expect(got.weight).toEqual(want);
    }
    expect(crossTerm.data).toEqual(before);
    expect((await cross.read()).data).toEqual(before);
  });

  it('leaves dead inputs dead', async () => {
    const { w, h, crossTerm } = await degraded(8, 64, 5);
    for (let i = 0; i < 64; i++) h.data[5 * 64 + i] = h.data[i * 64 + 5] = crossTerm.data[i * 64 + 5] = 0;
    const { weight, report } = await gptq(w, h, { bits: 4, groupSize: 16, groupAware: true, gptaq: { crossTerm, alpha: 1 } });
    expect(report.deadColumns).toBe(1);
    for (let r = 0; r < 8; r++) expect(decode(weight).data[r * 64 + 5]).toBe(0);
  });

  it('refuses what does not fit', async () => {
    const { w, h, crossTerm } = await degraded(4, 16, 6);
    const refused = (gptaq: GptqOpts['gptaq']) => gptq(w, h, { bits: 4, gptaq });
    await expect(refused({ crossTerm, alpha: -0.1 })).rejects.toMatchObject({ code: 'argument/option' });
    await expect(refused({ crossTerm, alpha: Number.NaN })).rejects.toMatchObject({ code: 'argument/option' });
    await expect(refused({ crossTerm: matrix(new Float32Array(9), 3, 3) })).rejects.toMatchObject({ code: 'argument/shape' });
    const poisoned = matrix(crossTerm.data.slice(), 16, 16);
    poisoned.data[3] = Number.NaN;
    await expect(refused({ crossTerm: poisoned })).rejects.toMatchObject({ code: 'argument/value' });
  });
});
