import type { Mat } from '@lmq/tensor';
import { createRng } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cholesky } from '../src/cholesky.js';
import { gemm, gemmNaive } from '../src/gemm.js';
import { syrk } from '../src/syrk.js';
import { triangularInverse } from '../src/triangular-inverse.js';

/** A random window of a larger buffer. */
function random(seed: number, rows: number, cols: number): Mat<Float32Array> {
  const rng = createRng(seed);
  const stride = cols + rng.below(4);
  const offset = rng.below(5);
  const buffer = Float32Array.from({ length: offset + rows * stride }, () => rng.normal());
  return { buffer, offset, rows, cols, stride };
}

const at = (m: Mat<Float32Array>, r: number, c: number) => m.buffer[m.offset + r * m.stride + c]!;
const size = fc.integer({ min: 0, max: 75 });
const seed = fc.integer();

describe('blocked algorithms give the bits of their definitions: one double sum per element, in ascending order', () => {
  it('gemm', () => {
    fc.assert(
      fc.property(size, size, size, fc.constantFrom('NN', 'NT', 'TN'), fc.constantFrom(0, 1, -0.3), seed, (m, k, n, kind, beta, s) => {
        const a = kind === 'TN' ? random(s, k, m) : random(s, m, k);
        const b = kind === 'NT' ? random(s + 1, n, k) : random(s + 1, k, n);
        const out = random(s + 2, m, n);
        const want = { ...out, buffer: out.buffer.slice() };
        gemm(out, a, b, kind === 'TN', kind === 'NT', 0.7, beta);
        gemmNaive(want, a, b, kind === 'TN', kind === 'NT', 0.7, beta);
        expect(out.buffer).toEqual(want.buffer);
      }),
      { numRuns: 60 },
    );
  });

  it('syrk is gemm of the transpose, also for an h that is not symmetric', () => {
    fc.assert(
      fc.property(size, size, fc.constantFrom(0, 1, 0.5), seed, (tokens, n, beta, s) => {
        const x = random(s, tokens, n);
        const h = random(s + 1, n, n);
        const want = { ...h, buffer: h.buffer.slice() };
        syrk(h, x, 1.3, beta);
        gemmNaive(want, x, x, true, false, 1.3, beta);
        expect(h.buffer).toEqual(want.buffer);
      }),
      { numRuns: 40 },
    );
  });

  it('cholesky', () => {
    fc.assert(
      fc.property(size, seed, (n, s) => {
        const x = random(s, n, n);
        const a = random(s + 1, n, n);
        gemmNaive(a, x, x, false, true, 1, 0);
        for (let i = 0; i < n; i++) a.buffer[a.offset + i * a.stride + i]! += 1;
        const out = random(s + 2, n, n);
        expect(cholesky(out, a)).toBe(true);
        const l = new Float32Array(n * n);
        for (let i = 0; i < n; i++) {
          for (let j = 0; j <= i; j++) {
            let sum = 0;
            for (let k = 0; k < j; k++) sum += l[i * n + k]! * l[j * n + k]!;
            l[i * n + j] = i === j ? Math.sqrt(at(a, i, i) - sum) : (at(a, i, j) - sum) / l[j * n + j]!;
          }
        }
        for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) expect(at(out, i, j)).toBe(l[i * n + j]);
      }),
      { numRuns: 20 },
    );
  });

  it('triangularInverse', () => {
    fc.assert(
      fc.property(size, seed, (n, s) => {
        const l = random(s, n, n);
        for (let i = 0; i < n; i++) l.buffer[l.offset + i * l.stride + i] = 2 + Math.abs(at(l, i, i));
        const out = random(s + 1, n, n);
        triangularInverse(out, l);
        const x = new Float32Array(n * n);
        for (let i = 0; i < n; i++) {
          for (let j = 0; j < i; j++) {
            let sum = 0;
            for (let k = j; k < i; k++) sum += at(l, i, k) * x[k * n + j]!;
            x[i * n + j] = -sum / at(l, i, i);
          }
          x[i * n + i] = 1 / at(l, i, i);
        }
        // + 0: a sum of no terms or of zeros may differ in the sign of zero
        for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) expect(at(out, i, j) + 0).toBe(x[i * n + j]! + 0);
      }),
      { numRuns: 20 },
    );
  });
});
