/**
 * gemm, syrk, Cholesky, triangular inverse, and the ops that gather, scatter and add rows.
 * @module
 */
import { matrix, type Rng } from '@lmq/tensor';
import { describe, expect } from 'vitest';
import { type Kit, place, random, SHAPES } from './kit.js';

export function linearAlgebra({ check, near, same }: Kit): void {
  describe('linear algebra', () => {
    const sizes: [number, number, number][] = [
      [0, 3, 4],
      [3, 0, 4],
      [1, 1, 1],
      [1, 50, 33],
      [2, 17, 5],
      [4, 8, 4],
      [5, 7, 9],
      [33, 64, 34],
      [70, 13, 67],
    ];
    for (const [label, ta, tb] of [
      ['NN', false, false],
      ['NT', false, true],
      ['TN', true, false],
    ] as const) {
      check(`gemm ${label}`, async (s, rng) => {
        for (const [m, k, n] of sizes) {
          for (const view of [false, true]) {
            const a = ta ? place(s, rng, k, m, view) : place(s, rng, m, k, view);
            const b = tb ? place(s, rng, n, k, view) : place(s, rng, k, n, view);
            const out = place(s, rng, m, n, view);
            const product = (alpha: number, beta: number) => {
              const want = new Float64Array(m * n);
              const magnitude = new Float64Array(m * n);
              for (let i = 0; i < m; i++) {
                for (let j = 0; j < n; j++) {
                  for (let p = 0; p < k; p++) {
                    const x = (ta ? a.values[p * m + i]! : a.values[i * k + p]!) * (tb ? b.values[j * k + p]! : b.values[p * n + j]!);
                    want[i * n + j]! += alpha * x;
                    magnitude[i * n + j]! += Math.abs(alpha * x);
                  }
                  want[i * n + j]! += beta * out.values[i * n + j]!;
                  magnitude[i * n + j]! += Math.abs(beta * out.values[i * n + j]!);
                }
              }
              return { want, magnitude };
            };
            const where = `${m} x ${k} x ${n}${view ? ', views' : ''}`;
            const plain = product(1, 0);
            const fresh = s.gemm(a.handle, b.handle, { transposeA: ta, transposeB: tb });
            expect([fresh.rows, fresh.cols]).toEqual([m, n]);
            near((await s.read(fresh)).data, plain.want, plain.magnitude, where);
            const scaled = product(-0.75, 0.5);
            s.gemm(a.handle, b.handle, { transposeA: ta, transposeB: tb, alpha: -0.75, beta: 0.5, out: out.handle });
            near((await s.read(out.handle)).data, scaled.want, scaled.magnitude, `${where}, alpha and beta`);
            await out.untouched();
          }
        }
      });
    }
    check('gemm with beta 0 does not read out', async (s, rng) => {
      for (const n of [1, 3, 12]) {
        const a = place(s, rng, n, n, false);
        const out = s.upload(matrix(new Float32Array(n * n).fill(Number.NaN), n, n));
        s.gemm(a.handle, a.handle, { out });
        expect((await s.read(out)).data.every(Number.isFinite)).toBe(true);
      }
    });
    check('gemm between windows of one matrix', async (s, rng) => {
      const values = random(rng, 12 * 20);
      const h = s.upload(matrix(values, 12, 20));
      const a = s.view(h, [0, 6], [0, 8]);
      const b = s.view(h, [4, 12], [8, 15]);
      const out = s.view(h, [6, 12], [15, 20]);
      const other = s.copy(s.view(b, [0, 8], [0, 5]));
      s.gemm(a, other, { out });
      const got = (await s.read(h)).data;
      for (let i = 0; i < 12; i++) {
        for (let j = 0; j < 20; j++) {
          if (i < 6 || j < 15) {
            expect(got[i * 20 + j]).toBe(values[i * 20 + j]);
            continue;
          }
          let want = 0;
          let magnitude = 0;
          for (let p = 0; p < 8; p++) {
            const x = values[(i - 6) * 20 + p]! * values[(4 + p) * 20 + 8 + j - 15]!;
            want += x;
            magnitude += Math.abs(x);
          }
          near([got[i * 20 + j]!], [want], [magnitude], 'window');
        }
      }
    });
    check('syrk', async (s, rng) => {
      for (const [tokens, n] of [...SHAPES, [40, 33], [9, 70]] as [number, number][]) {
        for (const view of [false, true]) {
          const x = place(s, rng, tokens, n, view);
          const h = place(s, rng, n, n, view);
          const symmetric = new Float32Array(n * n);
          for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) symmetric[i * n + j] = h.values[Math.min(i, j) * n + Math.max(i, j)]!;
          s.write(h.handle, matrix(symmetric, n, n));
          s.syrk(h.handle, x.handle, { alpha: 0.25, beta: 0.5 });
          const want = new Float64Array(n * n);
          const magnitude = new Float64Array(n * n);
          for (let i = 0; i < n; i++) {
            for (let j = 0; j < n; j++) {
              want[i * n + j] = 0.5 * symmetric[i * n + j]!;
              magnitude[i * n + j] = Math.abs(want[i * n + j]!);
              for (let t = 0; t < tokens; t++) {
                const p = 0.25 * x.values[t * n + i]! * x.values[t * n + j]!;
                want[i * n + j]! += p;
                magnitude[i * n + j]! += Math.abs(p);
              }
            }
          }
          const got = (await s.read(h.handle)).data;
          near(got, want, magnitude, `${tokens} x ${n}`);
          for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) expect(got[i * n + j], 'symmetric').toBe(got[j * n + i]);
          await h.untouched();
        }
      }
    });
    check('syrk adds to h by default, and with beta 0 does not read it', async (s) => {
      const x = s.upload(matrix(Float32Array.of(1, 2, 3, 4), 2, 2));
      const h = s.upload(matrix(Float32Array.of(1, 1, 1, 1), 2, 2));
      s.syrk(h, x);
      same((await s.read(h)).data, [11, 15, 15, 21], 'default');
      const nan = s.upload(matrix(new Float32Array(4).fill(Number.NaN), 2, 2));
      s.syrk(nan, x, { beta: 0 });
      same((await s.read(nan)).data, [10, 14, 14, 20], 'beta 0');
    });
    check('Cholesky: L Lᵀ = A, zeros above the diagonal, upper triangle of A not read', async (s, rng) => {
      for (const n of [0, 1, 2, 3, 4, 5, 8, 17, 32, 33, 64, 71, 130]) {
        const a = positiveDefinite(rng, n);
        const lower = a.slice();
        for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) lower[i * n + j] = Number.NaN;
        for (const view of [false, true]) {
          const h = place(s, rng, n, n, view, lower);
          const { factor, ok } = s.cholesky(h.handle);
          expect(ok).toBe(true);
          const l = (await s.read(factor)).data;
          const got = new Float64Array(n * n);
          const magnitude = new Float64Array(n * n);
          for (let i = 0; i < n; i++) {
            for (let j = 0; j < n; j++) {
              if (j > i) expect(l[i * n + j]).toBe(0);
              for (let k = 0; k < n; k++) {
                got[i * n + j]! += l[i * n + k]! * l[j * n + k]!;
                magnitude[i * n + j]! += 4 * Math.abs(l[i * n + k]! * l[j * n + k]!); // rounding of both factors, and of the sum
              }
            }
          }
          near(got, a, magnitude, `n = ${n}`);
        }
      }
    });
    check('Cholesky says no to what is not positive definite', async (s, rng) => {
      for (const n of [1, 2, 5, 33, 70]) {
        for (const bad of [0, n >> 1, n - 1]) {
          for (const value of [0, -1, Number.NaN, Number.NEGATIVE_INFINITY]) {
            const a = positiveDefinite(rng, n);
            a[bad * n + bad] = value;
            expect(s.cholesky(s.upload(matrix(a, n, n))).ok, `${value} at ${bad} of ${n}`).toBe(false);
          }
        }
      }
      // Positive diagonal, one negative eigenvalue.
      expect(s.cholesky(s.upload(matrix(Float32Array.of(1, 2, 2, 1), 2, 2))).ok).toBe(false);
    });
    check('triangular inverse: L L⁻¹ = I, and the upper triangle of L is not read', async (s, rng) => {
      for (const n of [0, 1, 2, 3, 4, 5, 8, 17, 32, 33, 64, 71, 130]) {
        const l = new Float32Array(n * n).fill(Number.NaN);
        for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) l[i * n + j] = i === j ? 1 + rng.uniform() : rng.normal() / Math.sqrt(n);
        for (const view of [false, true]) {
          const h = place(s, rng, n, n, view, l);
          const x = (await s.read(s.triangularInverse(h.handle))).data;
          const got = new Float64Array(n * n);
          const want = new Float64Array(n * n);
          const magnitude = new Float64Array(n * n);
          for (let i = 0; i < n; i++) {
            want[i * n + i] = 1;
            for (let j = 0; j < n; j++) {
              if (j > i) expect(x[i * n + j]).toBe(0);
              for (let k = 0; k <= i; k++) {
                got[i * n + j]! += l[i * n + k]! * x[k * n + j]!;
                magnitude[i * n + j]! += 4 * Math.abs(l[i * n + k]! * x[k * n + j]!);
              }
            }
          }
          near(got, want, magnitude, `n = ${n}`);
        }
      }
    });
    check('select', async (s, rng) => {
      for (const view of [false, true]) {
        const a = place(s, rng, 9, 13, view);
        const rows = [8, 0, 0, 5];
        const cols = Array.from({ length: 13 }, (_, i) => i);
        rng.shuffle(cols);
        const pick = (r: readonly number[], c: readonly number[]) => r.flatMap((i) => c.map((j) => a.values[i * 13 + j]!));
        const all = (n: number) => Array.from({ length: n }, (_, i) => i);
        same((await s.read(s.select(a.handle, rows))).data, pick(rows, all(13)), 'rows');
        same((await s.read(s.select(a.handle, undefined, cols))).data, pick(all(9), cols), 'columns');
        same((await s.read(s.select(a.handle, rows, cols))).data, pick(rows, cols), 'both');
        same((await s.read(s.select(a.handle))).data, a.values, 'neither');
        expect((await s.read(s.select(a.handle, []))).shape).toEqual([0, 13]);
      }
    });
    check('scatterAdd with rows that repeat', async (s, rng) => {
      for (const factors of [undefined, [0.5, -2, 0, 1.25, 3]]) {
        const into = place(s, rng, 6, 11, true);
        const a = place(s, rng, 5, 11, true);
        const rows = [2, 5, 2, 0, 2];
        s.scatterAdd(into.handle, a.handle, rows, factors);
        const want = Float64Array.from(into.values);
        const magnitude = want.map(Math.abs);
        rows.forEach((row, i) => {
          for (let j = 0; j < 11; j++) {
            const x = (factors?.[i] ?? 1) * a.values[i * 11 + j]!;
            want[row * 11 + j]! += x;
            magnitude[row * 11 + j]! += 2 * Math.abs(x) + magnitude[row * 11 + j]!; // one more rounding for each row added
          }
        });
        near((await s.read(into.handle)).data, want, magnitude, 'scatterAdd');
        await into.untouched();
      }
    });
    check('addTo', async (s, rng) => {
      for (const [rows, cols] of SHAPES) {
        const into = place(s, rng, rows, cols, true);
        const a = place(s, rng, rows, cols, true);
        s.addTo(into.handle, a.handle, -1.5);
        const want = Float64Array.from(into.values, (x, i) => x - 1.5 * a.values[i]!);
        near(
          (await s.read(into.handle)).data,
          want,
          Array.from(into.values, (x, i) => Math.abs(x) + 3 * Math.abs(a.values[i]!)),
          'addTo',
        );
        await into.untouched();
      }
      const twice = s.upload(matrix(Float32Array.of(1, 2), 1, 2));
      s.addTo(twice, twice);
      same((await s.read(twice)).data, [2, 4], 'itself');
    });
  });
}

/** X Xᵀ / n + I for a random X: well conditioned. */
function positiveDefinite(rng: Rng, n: number): Float32Array {
  const x = random(rng, n * n);
  const a = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = 0; k < n; k++) sum += (x[i * n + k]! * x[j * n + k]!) / n;
      a[i * n + j] = a[j * n + i] = sum;
    }
  }
  return a;
}
