/**
 * The checks that every backend must pass: each op of the public Scope API against a naive float64 definition written here. A backend's
 * own tests call {@link conformance}.
 *
 * Tolerance: |got - want| <= relative * magnitude, where magnitude is the sum of the absolute values of the terms that make up the
 * element (the usual forward error bound of a sum of k float32 terms is k * 2^-24 * magnitude). Ops that move data, and the grid ops,
 * which are float32 operation by operation, must be exact.
 * @module
 */
import {
  type Backend,
  type CompressedTensor,
  createRng,
  type Handle,
  isLmqError,
  type Matrix,
  matrix,
  ndarray,
  type Rng,
  type Scope,
} from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { sampleWeights } from './weights.js';

export interface ConformanceOpts {
  /** Error allowed per unit of magnitude. 2^-23 suits double accumulators with one rounding to float32. */
  relative: number;
}

/** A matrix on the backend, its values here, and the larger matrix around it when it is a view. */
interface Placed {
  handle: Handle;
  values: Float32Array;
  rows: number;
  cols: number;
  /** Throws when anything around the view has changed. */
  untouched(): Promise<void>;
}

/** Below this, float32 is subnormal and relative bounds mean nothing. */
const FLOOR = 2 ** -120;

/** Rows, columns: empty, single, and around the block sizes 4, 8, 16, 32. */
const SHAPES: [number, number][] = [
  [0, 5],
  [1, 1],
  [1, 37],
  [5, 1],
  [3, 4],
  [4, 8],
  [7, 19],
  [33, 35],
  [16, 64],
];

export function conformance(
  name: string,
  makeBackend: () => Promise<Backend>,
  { relative }: ConformanceOpts = { relative: 2 ** -23 },
): void {
  describe(`${name} against the definitions`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await makeBackend();
    });

    /** A test with a scope of its own and a generator seeded by its name. */
    const check = (title: string, body: (s: Scope, rng: Rng) => Promise<void>) =>
      it(title, async () => {
        const s = backend.scope();
        try {
          await body(s, createRng([...title].reduce((h, c) => Math.imul(h, 31) + c.charCodeAt(0), 7)));
        } finally {
          s.dispose();
        }
      });

    const near = (got: ArrayLike<number>, want: ArrayLike<number>, magnitude: ArrayLike<number>, where: string) => {
      expect(got.length, where).toBe(want.length);
      for (let i = 0; i < want.length; i++) {
        const bound = relative * magnitude[i]! + FLOOR;
        if (!(Math.abs(got[i]! - want[i]!) <= bound)) expect.fail(`${where}, element ${i}: got ${got[i]}, want ${want[i]} ± ${bound}`);
      }
    };
    const same = (got: ArrayLike<number>, want: ArrayLike<number>, where: string) => {
      expect(got.length, where).toBe(want.length);
      for (let i = 0; i < want.length; i++)
        if (!Object.is(got[i], want[i])) expect.fail(`${where}, element ${i}: got ${got[i]}, want ${want[i]}`);
    };

    describe('memory', () => {
      check('upload, read, write, copy of plain matrices and views', async (s, rng) => {
        for (const [rows, cols] of SHAPES) {
          for (const view of [false, true]) {
            const a = place(s, rng, rows, cols, view);
            same((await s.read(a.handle)).data, a.values, `read ${rows} x ${cols}`);
            const copied = s.copy(a.handle);
            const other = random(rng, rows * cols);
            s.write(a.handle, matrix(other, rows, cols));
            same((await s.read(a.handle)).data, other, 'write');
            same((await s.read(copied)).data, a.values, 'copy');
            await a.untouched();
          }
        }
      });
      check('codes', async (s, rng) => {
        const bytes = Uint8Array.from({ length: 7 * 9 }, () => rng.below(256));
        const h = s.upload(ndarray(bytes, [7, 9]));
        const window = s.view(h, [2, 5], [3, 8]);
        const got = await s.readCodes(window);
        expect(got.shape).toEqual([3, 5]);
        for (let i = 0; i < 3; i++) for (let j = 0; j < 5; j++) expect(got.get(i, j)).toBe(bytes[(2 + i) * 9 + 3 + j]);
        s.write(window, ndarray(new Uint8Array(15).fill(200), [3, 5]));
        const after = (await s.readCodes(h)).data;
        for (let i = 0; i < 63; i++) {
          const [r, c] = [Math.floor(i / 9), i % 9];
          expect(after[i]).toBe(r >= 2 && r < 5 && c >= 3 && c < 8 ? 200 : bytes[i]);
        }
      });
      check('new handles are zero, also where memory was used before', async (s, rng) => {
        for (let i = 0; i < 20; i++) {
          const h = s.upload(matrix(random(rng, 999), 27, 37));
          s.free(h);
          const zero = s.alloc(27, 37);
          expect((await s.read(zero)).data.every((x) => x === 0)).toBe(true);
          s.free(zero);
          expect((await s.readCodes(s.alloc(3, 5, 'u8'))).data.every((x) => x === 0)).toBe(true);
        }
      });
      check('an impossible allocation is backend/memory, and the backend works afterwards', async (s) => {
        let error: unknown;
        try {
          s.alloc(2 ** 24, 2 ** 26); // 4 PiB
        } catch (e) {
          error = e;
        }
        expect(isLmqError(error) && error.code).toBe('backend/memory');
        expect((await s.read(s.alloc(2, 2))).data).toEqual(new Float32Array(4));
      });
    });

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

    describe('quantization', () => {
      check('fakeQuant: codes and values are exact', async (s, rng) => {
        for (const bits of [1, 2, 3, 4, 8]) {
          for (const [rows, cols] of SHAPES) {
            for (const groupSize of [1, 4, 7, 64]) {
              const view = rng.below(2) === 1;
              const groups = Math.ceil(cols / groupSize);
              const w = place(s, rng, rows, cols, view);
              const scales = place(
                s,
                rng,
                rows,
                groups,
                view,
                random(rng, rows * groups).map((x) => Math.abs(x) / 4),
              );
              const zeros = place(
                s,
                rng,
                rows,
                groups,
                view,
                Float32Array.from({ length: rows * groups }, () => rng.below(2 ** bits)),
              );
              const codes = s.alloc(rows, cols, 'u8');
              const out = s.fakeQuant(w.handle, { scales: scales.handle, zeroPoints: zeros.handle, bits }, groupSize, codes);
              const wantCodes: number[] = [];
              const want: number[] = [];
              for (let r = 0; r < rows; r++) {
                for (let c = 0; c < cols; c++) {
                  const g = r * groups + Math.floor(c / groupSize);
                  const q = onGrid(w.values[r * cols + c]!, scales.values[g]!, zeros.values[g]!, bits);
                  wantCodes.push(q.code);
                  want.push(q.value);
                }
              }
              same((await s.readCodes(codes)).data, wantCodes, `codes ${bits} bits`);
              same((await s.read(out)).data, want, 'values');
              same((await s.read(w.handle)).data, w.values, 'w is left alone');
              const withoutCodes = s.fakeQuant(w.handle, { scales: scales.handle, zeroPoints: zeros.handle, bits }, groupSize);
              same((await s.read(withoutCodes)).data, want, 'values without codes');
            }
          }
        }
      });
      check('fakeQuant: ties go to even, ends clamp, a scale of 0 takes the zero point', async (s) => {
        const w = Float32Array.of(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e30, -1e30, 0.49999997, 3e38, -0, 7);
        const n = w.length;
        const one = (scale: number, zero: number) => ({
          scales: s.upload(matrix(Float32Array.of(scale), 1, 1)),
          zeroPoints: s.upload(matrix(Float32Array.of(zero), 1, 1)),
          bits: 4,
        });
        const codes = s.alloc(1, n, 'u8');
        s.fakeQuant(s.upload(matrix(w, 1, n)), one(1, 8), n, codes);
        same((await s.readCodes(codes)).data, [8, 10, 10, 8, 6, 6, 15, 0, 8, 15, 8, 15], 'ties');
        const values = s.fakeQuant(s.upload(matrix(w, 1, n)), one(0, 5), n, codes);
        same((await s.readCodes(codes)).data, new Array(n).fill(5), 'codes at scale 0');
        same((await s.read(values)).data, new Array(n).fill(0), 'values at scale 0');
        // 12582913 / 8388609 = 1.49999994 and 20971528 / 8388611 = 2.50000006: ties once rounded to float32.
        s.fakeQuant(s.upload(matrix(Float32Array.of(12582913, -12582913), 1, 2)), one(8388609, 8), 2, s.view(codes, [0, 1], [0, 2]));
        same((await s.readCodes(s.view(codes, [0, 1], [0, 2]))).data, [10, 6], 'float32 division');
        s.fakeQuant(s.upload(matrix(Float32Array.of(20971528, -20971528), 1, 2)), one(8388611, 8), 2, s.view(codes, [0, 1], [0, 2]));
        same((await s.readCodes(s.view(codes, [0, 1], [0, 2]))).data, [10, 6], 'float32 division');
        // 1e-40 is subnormal: the quotients overflow to infinity and clamp.
        s.fakeQuant(s.upload(matrix(Float32Array.of(1, -1, 0), 1, 3)), one(1e-40, 8), 3, s.view(codes, [0, 1], [0, 3]));
        same((await s.readCodes(s.view(codes, [0, 1], [0, 3]))).data, [15, 0, 8], 'subnormal scale');
      });
      check('obsSweep: exact, against a transcription of the algorithm', async (s, rng) => {
        for (const [rows, width, start, end, blockEnd] of [
          [1, 1, 0, 1, 1],
          [3, 9, 0, 9, 9],
          [5, 12, 4, 8, 10],
          [33, 40, 8, 17, 37],
          [4, 70, 32, 64, 70],
          [2, 16, 3, 4, 4],
          [0, 8, 0, 8, 8],
        ] as const) {
          for (const bits of [2, 4, 8]) {
            for (const view of [false, true]) {
              const span = end - start;
              const w = place(s, rng, rows, width, view);
              const factor = random(rng, width * width).map((x, i) => (i % width === Math.floor(i / width) ? 0.5 + Math.abs(x) : x / 4));
              const u = place(s, rng, width, width, view, factor);
              const scales = place(
                s,
                rng,
                rows,
                1,
                view,
                random(rng, rows).map((x, i) => (i === 1 ? 0 : Math.abs(x) / 2)),
              );
              const zeros = place(
                s,
                rng,
                rows,
                1,
                view,
                Float32Array.from({ length: rows }, () => rng.below(2 ** bits)),
              );
              const errors = place(s, rng, rows, span, view);
              const codes = s.alloc(rows, span, 'u8');
              const grid = { scales: scales.handle, zeroPoints: zeros.handle, bits };
              s.obsSweep(w.handle, u.handle, { start, end, blockEnd, grid, codes, errors: errors.handle });

              const row = w.values.slice();
              const wantErrors = new Float32Array(rows * span);
              const wantCodes = new Uint8Array(rows * span);
              for (let i = start; i < end; i++) {
                for (let r = 0; r < rows; r++) {
                  const x = row[r * width + i]!;
                  const q = onGrid(x, scales.values[r]!, zeros.values[r]!, bits);
                  const e = Math.fround(Math.fround(x - q.value) / factor[i * width + i]!);
                  wantCodes[r * span + i - start] = q.code;
                  wantErrors[r * span + i - start] = e;
                  row[r * width + i] = q.value;
                  for (let j = i + 1; j < blockEnd; j++) row[r * width + j] = row[r * width + j]! - Math.fround(e * factor[i * width + j]!);
                }
              }
              same((await s.readCodes(codes)).data, wantCodes, 'codes');
              same((await s.read(errors.handle)).data, wantErrors, 'errors');
              same((await s.read(w.handle)).data, row, 'w');
              await w.untouched();
              await errors.untouched();
            }
          }
        }
      });
      check('obsSweep with U = I is fakeQuant', async (s, rng) => {
        const [rows, width] = [6, 50];
        const identity = new Float32Array(width * width);
        for (let i = 0; i < width; i++) identity[i * width + i] = 1;
        const w = s.upload(matrix(random(rng, rows * width), rows, width));
        const grid = {
          scales: s.upload(
            matrix(
              random(rng, rows).map((x) => Math.abs(x) / 3),
              rows,
              1,
            ),
          ),
          zeroPoints: s.upload(matrix(new Float32Array(rows).fill(4), rows, 1)),
          bits: 3,
        };
        const plainCodes = s.alloc(rows, width, 'u8');
        const plain = s.fakeQuant(w, grid, width, plainCodes);
        const codes = s.alloc(rows, width, 'u8');
        const errors = s.alloc(rows, width);
        s.obsSweep(w, s.upload(matrix(identity, width, width)), { start: 0, end: width, blockEnd: width, grid, codes, errors });
        same((await s.readCodes(codes)).data, (await s.readCodes(plainCodes)).data, 'codes');
        same((await s.read(w)).data, (await s.read(plain)).data, 'values');
      });
    });

    describe('compressed weights', () => {
      const large = ['fp32', 'bf16', 'affine 4-bit g32 symmetric', 'parts of columns'];
      for (const [rows, cols, labels] of [
        [1, 64, undefined],
        [5, 32, undefined],
        [70, 96, undefined],
        [150, 4096, large], // too large to decode at once
      ] as const) {
        check(`linear and embedding with every layout, ${rows} x ${cols}`, async (s, rng) => {
          for (const { label, weight, values } of sampleWeights(rng, rows, cols, labels)) {
            const bias = random(rng, rows);
            for (const withBias of [false, true]) {
              const loaded = backend.load({ weight, ...(withBias && { bias }) });
              expect([loaded.out, loaded.in]).toEqual([rows, cols]);
              expect(loaded.bytes).toBeGreaterThan(0);
              for (const tokens of withBias ? (labels ? [5] : [1, 5]) : labels ? [2] : [0, 2, 33]) {
                const x = place(s, rng, tokens, cols, tokens % 2 === 1);
                const want = new Float64Array(tokens * rows);
                const magnitude = new Float64Array(tokens * rows);
                for (let t = 0; t < tokens; t++) {
                  for (let o = 0; o < rows; o++) {
                    let sum = withBias ? bias[o]! : 0;
                    let size = Math.abs(sum);
                    for (let i = 0; i < cols; i++) {
                      const p = x.values[t * cols + i]! * values[o * cols + i]!;
                      sum += p;
                      size += Math.abs(p);
                    }
                    want[t * rows + o] = sum;
                    magnitude[t * rows + o] = size * 2; // the decoded weight is rounded to float32 too
                  }
                }
                near((await s.read(s.linear(x.handle, loaded))).data, want, magnitude, `${label}, ${tokens} tokens`);
              }
              const ids = [rows - 1, 0, 0, rows >> 1];
              const rowsOf = ids.flatMap((id) => Array.from(values.subarray(id * cols, (id + 1) * cols)));
              near((await s.read(s.embedding(loaded, ids))).data, rowsOf, rowsOf.map(Math.abs), `${label}, embedding`);
              loaded.dispose();
              expect(() => s.embedding(loaded, ids)).toThrow(/disposed/);
            }
          }
        });
      }
      check('a row of the product does not depend on the other rows', async (s, rng) => {
        const weight: CompressedTensor = { kind: 'dense', shape: [37, 50], format: 'fp32', data: random(rng, 37 * 50) };
        const loaded = backend.load({ weight });
        const x = random(rng, 9 * 50);
        const all = (await s.read(s.linear(s.upload(matrix(x, 9, 50)), loaded))).data;
        for (let t = 0; t < 9; t++) {
          const one = (await s.read(s.linear(s.upload(matrix(x.slice(t * 50, t * 50 + 50), 1, 50)), loaded))).data;
          near(one, all.subarray(t * 37, t * 37 + 37), new Float64Array(37).fill(50), `row ${t}`);
        }
      });
    });

    describe('transformer', () => {
      check('rmsNorm', async (s, rng) => {
        for (const [rows, cols] of SHAPES) {
          const x = place(s, rng, rows, cols, true);
          const weight = place(s, rng, 1, cols, true);
          const want: number[] = [];
          for (let r = 0; r < rows; r++) {
            let squares = 0;
            for (let c = 0; c < cols; c++) squares += x.values[r * cols + c]! ** 2;
            for (let c = 0; c < cols; c++) want.push((x.values[r * cols + c]! / Math.sqrt(squares / cols + 1e-5)) * weight.values[c]!);
          }
          // A mean, a root, a quotient and two products are rounded.
          near(
            (await s.read(s.rmsNorm(x.handle, weight.handle, 1e-5))).data,
            want,
            want.map((y) => 4 * Math.abs(y)),
            `${rows} x ${cols}`,
          );
        }
      });
      check('rmsNorm of a zero row is zero', async (s) => {
        const weight = s.upload(matrix(Float32Array.of(1, 2, 3), 1, 3));
        expect((await s.read(s.rmsNorm(s.alloc(2, 3), weight, 1e-6))).data.every((x) => x === 0)).toBe(true);
      });
      for (const style of ['half', 'interleaved'] as const) {
        check(`rope ${style}`, async (s, rng) => {
          for (const [tokens, heads, headDim, rotary, position] of [
            [1, 1, 2, 2, 0],
            [5, 3, 8, 8, 2],
            [7, 2, 16, 8, 0], // partial rotary: the rest of each head stays
            [3, 2, 6, 6, 9],
            [0, 2, 4, 4, 1],
          ] as const) {
            const pairs = rotary / 2;
            const x = place(s, rng, tokens, heads * headDim, true);
            const angles = random(rng, 12 * pairs);
            const cos = place(s, rng, 12, pairs, true, angles.map(Math.cos));
            const sin = place(s, rng, 12, pairs, true, angles.map(Math.sin));
            s.rope(x.handle, cos.handle, sin.handle, { headDim, style, position });
            const want = Float64Array.from(x.values);
            const magnitude = new Float64Array(want.length);
            for (let t = 0; t < tokens; t++) {
              for (let h = 0; h < heads; h++) {
                const head = (t * heads + h) * headDim;
                for (let i = 0; i < pairs; i++) {
                  const [p, q] = style === 'half' ? [head + i, head + i + pairs] : [head + 2 * i, head + 2 * i + 1];
                  const c = cos.values[(position + t) * pairs + i]!;
                  const d = sin.values[(position + t) * pairs + i]!;
                  want[p] = x.values[p]! * c - x.values[q]! * d;
                  want[q] = x.values[q]! * c + x.values[p]! * d;
                  magnitude[p] = magnitude[q] = 2 * (Math.abs(x.values[p]!) + Math.abs(x.values[q]!));
                }
              }
            }
            near((await s.read(x.handle)).data, want, magnitude, `${heads} heads of ${headDim}`);
            await x.untouched();
          }
        });
      }
      check('attention', async (s, rng) => {
        for (const [tokens, heads, kvHeads, headDim, position, scale] of [
          [1, 1, 1, 1, 0, undefined],
          [6, 4, 2, 8, 0, undefined],
          [1, 4, 1, 16, 9, undefined],
          [5, 6, 6, 5, 3, 0.3],
          [33, 2, 1, 32, 20, undefined],
          [3, 2, 2, 4, 0, 30], // sharp: most probabilities vanish
          [4, 2, 1, 4, 2, 3000], // scores beyond the range of exp
          [0, 2, 2, 4, 3, undefined],
        ] as const) {
          const seen = position + tokens;
          const q = place(s, rng, tokens, heads * headDim, true);
          const k = place(s, rng, seen, kvHeads * headDim, true);
          const v = place(s, rng, seen, kvHeads * headDim, true);
          const opts = { heads, kvHeads, headDim, position, ...(scale !== undefined && { scale }) };
          const got = (await s.read(s.attention(q.handle, k.handle, v.handle, opts))).data;
          const want = new Float64Array(tokens * heads * headDim);
          const magnitude = new Float64Array(want.length);
          const factor = scale ?? 1 / Math.sqrt(headDim);
          for (let t = 0; t < tokens; t++) {
            for (let h = 0; h < heads; h++) {
              const kv = Math.floor((h * kvHeads) / heads);
              const scores: number[] = [];
              let size = 0; // of the scores before they cancel: an error there multiplies the probabilities
              for (let u = 0; u <= position + t; u++) {
                let score = 0;
                let sum = 0;
                for (let d = 0; d < headDim; d++) {
                  const p = factor * q.values[(t * heads + h) * headDim + d]! * k.values[(u * kvHeads + kv) * headDim + d]!;
                  score += p;
                  sum += Math.abs(p);
                }
                scores.push(score);
                size = Math.max(size, sum);
              }
              const max = Math.max(...scores);
              const total = scores.reduce((sum, x) => sum + Math.exp(x - max), 0);
              for (let d = 0; d < headDim; d++) {
                const o = (t * heads + h) * headDim + d;
                scores.forEach((x, u) => {
                  const y = (Math.exp(x - max) / total) * v.values[(u * kvHeads + kv) * headDim + d]!;
                  want[o]! += y;
                  magnitude[o]! += Math.abs(y) * (2 + 4 * size);
                });
              }
            }
          }
          near(got, want, magnitude, `${tokens} tokens, ${heads}/${kvHeads} heads of ${headDim}`);
        }
      });
      check('attention in pieces is attention at once', async (s, rng) => {
        const [tokens, heads, kvHeads, headDim] = [9, 4, 2, 8];
        const q = random(rng, tokens * heads * headDim);
        const k = s.upload(matrix(random(rng, tokens * kvHeads * headDim), tokens, kvHeads * headDim));
        const v = s.upload(matrix(random(rng, tokens * kvHeads * headDim), tokens, kvHeads * headDim));
        const hq = s.upload(matrix(q, tokens, heads * headDim));
        const whole = (await s.read(s.attention(hq, k, v, { heads, kvHeads, headDim }))).data;
        for (const [from, to] of [
          [0, 4],
          [4, 5],
          [5, 9],
        ] as const) {
          const part = s.attention(s.view(hq, [from, to]), s.view(k, [0, to]), s.view(v, [0, to]), {
            heads,
            kvHeads,
            headDim,
            position: from,
          });
          const width = heads * headDim;
          near(
            (await s.read(part)).data,
            whole.subarray(from * width, to * width),
            new Float64Array((to - from) * width).fill(4),
            `${from}`,
          );
        }
      });
      check('swiglu', async (s, rng) => {
        for (const [rows, cols] of SHAPES) {
          const gate = place(
            s,
            rng,
            rows,
            cols,
            true,
            random(rng, rows * cols).map((x) => x * 10),
          );
          const up = place(s, rng, rows, cols, true);
          const want = Array.from(gate.values, (x, i) => (x / (1 + Math.exp(-x))) * up.values[i]!);
          const magnitude = want.map((y, i) => Math.abs(y) * (3 + Math.abs(gate.values[i]!)));
          near((await s.read(s.swiglu(gate.handle, up.handle))).data, want, magnitude, `${rows} x ${cols}`);
        }
        const far = s.upload(matrix(Float32Array.of(-1e4, 1e4, -90, 90, 0), 1, 5));
        const ones = s.upload(matrix(new Float32Array(5).fill(1), 1, 5));
        const got = (await s.read(s.swiglu(far, ones))).data;
        near(got, [0, 1e4, -90 * Math.exp(-90), 90, 0], [0, 1e4, 1, 90, 0], 'far from zero');
      });
      check('softmax', async (s, rng) => {
        for (const [rows, cols] of SHAPES) {
          for (const spread of [1, 30]) {
            const x = place(
              s,
              rng,
              rows,
              cols,
              true,
              random(rng, rows * cols).map((y) => spread * y + 1000),
            );
            const want: number[] = [];
            const magnitude: number[] = [];
            for (let r = 0; r < rows; r++) {
              const row = Array.from(x.values.subarray(r * cols, (r + 1) * cols));
              const max = Math.max(...row);
              const total = row.reduce((sum, y) => sum + Math.exp(y - max), 0);
              for (const y of row) {
                want.push(Math.exp(y - max) / total);
                magnitude.push((Math.exp(y - max) / total) * (3 + max - y));
              }
            }
            near((await s.read(s.softmax(x.handle))).data, want, magnitude, `${rows} x ${cols}`);
          }
        }
        const low = s.upload(matrix(Float32Array.of(-2000, -2000, -1e30, -1e30), 2, 2));
        same((await s.read(s.softmax(low))).data, [0.5, 0.5, 0.5, 0.5], 'all far below zero');
        const masked = s.upload(matrix(Float32Array.of(0, Number.NEGATIVE_INFINITY, 0, 1e30, 0, -1e30), 2, 3));
        same((await s.read(s.softmax(masked))).data, [0.5, 0, 0.5, 1, 0, 0], 'far apart');
      });
    });
  });
}

function random(rng: Rng, n: number): Float32Array {
  return Float32Array.from({ length: n }, () => rng.normal());
}

/** Uploads a matrix, alone or as a window of a larger one full of noise. */
function place(s: Scope, rng: Rng, rows: number, cols: number, view: boolean, values = random(rng, rows * cols)): Placed {
  if (!view) return { handle: s.upload(matrix(values, rows, cols)), values, rows, cols, async untouched() {} };
  const [top, left, height, width] = [1 + rng.below(3), 1 + rng.below(3), rows + 5, cols + 7];
  const noise = random(rng, height * width);
  for (let i = 0; i < rows; i++) noise.set(values.subarray(i * cols, (i + 1) * cols), (top + i) * width + left);
  const around = s.upload(matrix(noise, height, width));
  return {
    handle: s.view(around, [top, top + rows], [left, left + cols]),
    values,
    rows,
    cols,
    async untouched() {
      const now: Matrix = await s.read(around);
      for (let i = 0; i < height; i++) {
        for (let j = 0; j < width; j++) {
          const inside = i >= top && i < top + rows && j >= left && j < left + cols;
          if (!inside && now.data[i * width + j] !== noise[i * width + j]) expect.fail(`the op wrote outside its view, at ${i}, ${j}`);
        }
      }
    },
  };
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

/** The grid as the Scope contract states it, in float32 steps; rounding by comparison, not by the trick of the code under test. */
function onGrid(w: number, scale: number, zero: number, bits: number): { code: number; value: number } {
  const x = scale === 0 ? 0 : Math.fround(w / scale);
  const below = Math.floor(x);
  const rest = x - below;
  const steps = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  const code = Math.min(Math.max(steps + zero, 0), 2 ** bits - 1);
  return { code, value: Math.fround(Math.fround(code - zero) * scale) };
}
