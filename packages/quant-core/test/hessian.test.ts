import { jsBackend } from '@lmq/kernels-js';
import { createCrossTerm, createHessian } from '@lmq/quant-core';
import { createRng, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { countingBackend } from './_counting.js';

const WIDTH = 10;
function sequence(tokens: number, seed: number): Matrix {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: tokens * WIDTH }, () => rng.normal()),
    tokens,
    WIDTH,
  );
}
const sequences = [sequence(30, 1), sequence(700, 2), sequence(1, 3), sequence(1200, 4)];

describe('createHessian', () => {
  it('is 2 / sequences · Σ Xᵀ X', async () => {
    const s = jsBackend().scope();
    const h = createHessian(s.backend, WIDTH);
    for (const x of sequences) h.add(s.upload(x));
    expect([h.tokens, h.sequences, h.width]).toEqual([1931, 4, WIDTH]);
    const got = await h.read();
    for (let i = 0; i < WIDTH; i++) {
      for (let j = 0; j < WIDTH; j++) {
        let sum = 0;
        for (const x of sequences) for (let t = 0; t < x.shape[0]!; t++) sum += x.data[t * WIDTH + i]! * x.data[t * WIDTH + j]!;
        // float32 sums of 1931 products near 1: an absolute error of a few 1e-7 of the diagonal
        expect(Math.abs(got.data[i * WIDTH + j]! - sum / 2)).toBeLessThan(1e-6 * 1931);
        expect(got.data[i * WIDTH + j]).toBe(got.data[j * WIDTH + i]);
      }
    }
    h.dispose();
    s.dispose();
  });

  it('gives the same bytes every time, and takes one matrix', async () => {
    const bytes = async () => {
      const counting = countingBackend(jsBackend());
      const s = jsBackend().scope();
      const h = createHessian(s.backend, WIDTH);
      for (const x of sequences) h.add(s.upload(x));
      createHessian(counting.backend, 100);
      expect(counting.peak()).toBe(100 * 100 * 4);
      return (await h.read()).data;
    };
    expect(await bytes()).toEqual(await bytes());
  });

  it('agrees to rounding when single sequences are merged', async () => {
    const s = jsBackend().scope();
    const one = createHessian(s.backend, WIDTH);
    const merged = createHessian(s.backend, WIDTH);
    for (const x of sequences) {
      one.add(s.upload(x));
      const single = createHessian(s.backend, WIDTH);
      single.add(s.upload(x));
      merged.merge(single);
      single.dispose();
    }
    const [got, want] = [(await merged.read()).data, (await one.read()).data];
    for (let i = 0; i < got.length; i++) expect(Math.abs(got[i]! - want[i]!)).toBeLessThan(1e-6 * 1931);
    expect([merged.tokens, merged.sequences]).toEqual([one.tokens, one.sequences]);
    s.dispose();
  });

  it('agrees to rounding when halves are merged', async () => {
    const s = jsBackend().scope();
    const [all, a, b] = [createHessian(s.backend, WIDTH), createHessian(s.backend, WIDTH), createHessian(s.backend, WIDTH)];
    for (const [i, x] of sequences.entries()) {
      all.add(s.upload(x));
      (i < 2 ? a : b).add(s.upload(x));
    }
    a.merge(b);
    const want = (await all.read()).data;
    const got = (await a.read()).data;
    for (let i = 0; i < got.length; i++) expect(Math.abs(got[i]! - want[i]!)).toBeLessThan(1e-6 * 1931);
    s.dispose();
  });

  it('reads views, counts empty sequences, and refuses to read nothing', async () => {
    const s = jsBackend().scope();
    const h = createHessian(s.backend, WIDTH);
    await expect(h.read()).rejects.toMatchObject({ code: 'calibration/short' });
    const wide = s.upload(matrix(new Float32Array(4 * 30).fill(1), 4, 30));
    h.add(s.view(wide, [1, 3], [5, 15]));
    h.add(s.alloc(0, WIDTH));
    expect([h.tokens, h.sequences]).toEqual([2, 2]);
    expect([...(await h.read()).data]).toEqual(new Array(100).fill(2)); // 2 / 2 · 2 tokens
    expect(() => h.add(wide)).toThrow(/width/);
    s.dispose();
  });
});

describe('createCrossTerm', () => {
  const floats = sequences.map((x, i) => sequence(x.shape[0]!, 10 + i));

  it('is 2 / sequences · Σ (X̃ − X)ᵀ X', async () => {
    const s = jsBackend().scope();
    const c = createCrossTerm(s.backend, WIDTH);
    const [a, b] = [createCrossTerm(s.backend, WIDTH), createCrossTerm(s.backend, WIDTH)];
    for (const [i, x] of sequences.entries()) {
      c.add(s.upload(floats[i]!), s.upload(x));
      (i < 2 ? a : b).add(s.upload(floats[i]!), s.upload(x));
    }
    a.merge(b);
    expect([c.tokens, c.sequences, c.width]).toEqual([1931, 4, WIDTH]);
    const [got, merged] = [(await c.read()).data, (await a.read()).data];
    for (let i = 0; i < WIDTH; i++) {
      for (let j = 0; j < WIDTH; j++) {
        let sum = 0;
        for (const [k, x] of sequences.entries()) {
          for (let t = 0; t < x.shape[0]!; t++) {
            sum += (floats[k]!.data[t * WIDTH + i]! - x.data[t * WIDTH + i]!) * x.data[t * WIDTH + j]!;
          }
        }
        // float32 sums of 1931 products near 1
        expect(Math.abs(got[i * WIDTH + j]! - sum / 2)).toBeLessThan(1e-6 * 1931);
        expect(Math.abs(merged[i * WIDTH + j]! - sum / 2)).toBeLessThan(1e-6 * 1931);
      }
    }
    s.dispose();
  });

  it('refuses inputs that do not belong together, and to read nothing', async () => {
    const s = jsBackend().scope();
    const c = createCrossTerm(s.backend, WIDTH);
    await expect(c.read()).rejects.toMatchObject({ code: 'calibration/short' });
    expect(() => c.add(s.alloc(3, WIDTH), s.alloc(4, WIDTH))).toThrow(/differ in shape/);
    expect(() => c.add(s.alloc(3, 9), s.alloc(3, 9))).toThrow(/width/);
    s.dispose();
  });
});
