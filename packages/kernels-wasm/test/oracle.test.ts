import { jsBackend } from '@lmq/kernels-js';
import { type Backend, createRng, matrix } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { wasmBackend } from '../src/index.js';

// Against kernels-js, at sizes where blocks, panels and recursion of the wasm kernels have seams.
let wasm: Backend;
const js = jsBackend();
beforeAll(async () => {
  wasm = await wasmBackend();
});

const random = (seed: number, n: number) => {
  const rng = createRng(seed);
  return Float32Array.from({ length: n }, () => rng.normal());
};

async function both<T>(work: (b: Backend) => Promise<T>): Promise<[T, T]> {
  return [await work(wasm), await work(js)];
}

describe('grids are the same bytes as kernels-js', () => {
  it.each([1, 2, 3, 4, 8])('fakeQuant, %i bits', async (bits) => {
    const [rows, cols, groupSize] = [37, 203, 48];
    const groups = Math.ceil(cols / groupSize);
    const [a, b] = await both(async (backend) => {
      const s = backend.scope();
      const rng = createRng(bits);
      const grid = {
        scales: s.upload(
          matrix(
            random(2, rows * groups).map((x) => x / 2 ** (bits - 1)),
            rows,
            groups,
          ),
        ),
        zeroPoints: s.upload(
          matrix(
            Float32Array.from({ length: rows * groups }, () => rng.below(2 ** bits)),
            rows,
            groups,
          ),
        ),
        bits,
      };
      const codes = s.alloc(rows, cols, 'u8');
      const out = s.fakeQuant(s.upload(matrix(random(1, rows * cols), rows, cols)), grid, groupSize, codes);
      const result = [(await s.read(out)).data, (await s.readCodes(codes)).data];
      s.dispose();
      return result;
    });
    expect(a).toEqual(b);
    expect(new Set(a[1]).size).toBe(2 ** Math.min(bits, 8) > 200 ? new Set(b[1]).size : 2 ** bits); // every code is met
  });

  it.each([
    [3, 0, 'grid'],
    [4, 1, 'grid'],
    [8, 2, 'grid'],
    [2, 3, 'table'],
    [4, 4, 'table'],
    [8, 5, 'table'],
  ] as const)('obsSweep in blocks, %i bits, %i, %s', async (bits, seed, kind) => {
    const [rows, cols, block] = [53, 301, 64];
    const [a, b] = await both(async (backend) => {
      const s = backend.scope();
      const w = s.upload(matrix(random(seed, rows * cols), rows, cols));
      const u = s.upload(
        matrix(
          random(seed + 9, cols * cols).map((x, i) => (i % (cols + 1) ? x / 20 : 0.7 + Math.abs(x))),
          cols,
          cols,
        ),
      );
      const affine = {
        scales: s.upload(
          matrix(
            random(seed + 5, rows).map((x) => 0.05 + Math.abs(x) / 2 ** (bits - 1)),
            rows,
            1,
          ),
        ),
        zeroPoints: s.upload(matrix(new Float32Array(rows).fill(2 ** (bits - 1)), rows, 1)),
        bits,
      };
      const n = 2 ** bits - 1;
      const grid = kind === 'grid' ? affine : { tables: s.upload(matrix(random(seed + 5, rows * n), rows, n)), bits };
      const all: (Float32Array | Uint8Array)[] = [];
      for (let start = 0; start < cols; start += 32) {
        const end = Math.min(cols, start + 32);
        const blockEnd = Math.min(cols, (Math.floor(start / block) + 1) * block);
        const codes = s.alloc(rows, end - start, 'u8');
        const errors = s.alloc(rows, end - start);
        s.obsSweep(w, u, { start, end, blockEnd, grid, codes, errors });
        all.push((await s.readCodes(codes)).data, (await s.read(errors)).data);
      }
      all.push((await s.read(w)).data);
      s.dispose();
      return all;
    });
    expect(a).toEqual(b);
  });
});

describe('large products', () => {
  // Beyond MC = 128, KC = 256, NC = 512, and not multiples of them. kernels-js sums in double.
  it.each([
    [131, 523, 530, false, false],
    [131, 523, 530, false, true],
    [131, 523, 530, true, false],
    [4, 1025, 8, false, false],
    [600, 3, 1030, false, true],
  ])('gemm %i x %i x %i, transposed %s %s', async (m, k, n, transposeA, transposeB) => {
    const a = random(1, m * k);
    const b = random(2, k * n);
    const c = random(3, m * n);
    const [got, want] = await both(async (backend) => {
      const s = backend.scope();
      const out = s.upload(matrix(c, m, n));
      const ha = s.upload(transposeA ? matrix(a, k, m) : matrix(a, m, k));
      const hb = s.upload(transposeB ? matrix(b, n, k) : matrix(b, k, n));
      s.gemm(ha, hb, { transposeA, transposeB, alpha: 0.5, beta: -2, out });
      const result = (await s.read(out)).data;
      s.dispose();
      return result;
    });
    // E |a b| = 2 / pi per term; the bound of conformance.test.ts on the expected magnitude, half as much again for its spread
    const bound = 16 * 2 ** -24 * ((0.5 * k * 2) / Math.PI + 2) * 1.5 + 2 ** -22;
    for (let i = 0; i < want.length; i++)
      if (!(Math.abs(got[i]! - want[i]!) <= bound)) expect.fail(`element ${i}: ${got[i]} against ${want[i]} ± ${bound}`);
  });

  it('syrk of 700 columns is symmetric to the bit and adds up over batches', async () => {
    const [tokens, n] = [300, 700];
    const x = random(4, tokens * n);
    const [got, want] = await both(async (backend) => {
      const s = backend.scope();
      const h = s.alloc(n, n);
      const hx = s.upload(matrix(x, tokens, n));
      s.syrk(h, s.view(hx, [0, 120]));
      s.syrk(h, s.view(hx, [120, tokens]));
      const result = (await s.read(h)).data;
      s.dispose();
      return result;
    });
    const bound = 16 * 2 ** -24 * tokens * 1.5;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const at = i * n + j;
        if (got[at] !== got[j * n + i]) expect.fail(`not symmetric at ${i}, ${j}`);
        if (!(Math.abs(got[at]! - want[at]!) <= bound)) expect.fail(`${i}, ${j}: ${got[at]} against ${want[at]}`);
      }
    }
  });

  it.each([65, 127, 128, 129, 200, 333, 600])('Cholesky and its inverse, n = %i', async (n) => {
    const s = wasm.scope();
    const a = s.alloc(n, n);
    s.syrk(a, s.upload(matrix(random(n, n * n), n, n)), { alpha: 1 / n });
    const eye = new Float32Array(n * n);
    for (let i = 0; i < n; i++) eye[i * n + i] = 0.1;
    s.addTo(a, s.upload(matrix(eye, n, n)));
    const { factor, ok } = s.cholesky(a);
    expect(ok).toBe(true);
    const inverse = s.triangularInverse(factor);
    const [A, L, X] = [(await s.read(a)).data, (await s.read(factor)).data, (await s.read(inverse)).data];
    s.dispose();
    // Backward errors of at most n additions in f32, as a random walk: sqrt(n) * 2^-24, times the magnitudes; a factor of 4 to spare.
    const relative = 4 * Math.sqrt(n) * 2 ** -24;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        if (j > i) {
          if (L[i * n + j] !== 0 || X[i * n + j] !== 0) expect.fail(`not lower triangular at ${i}, ${j}`);
          continue;
        }
        let [sum, size, unit, unitSize] = [0, 0, 0, 0];
        for (let k = 0; k <= j; k++) {
          sum += L[i * n + k]! * L[j * n + k]!;
          size += Math.abs(L[i * n + k]! * L[j * n + k]!);
        }
        for (let k = j; k <= i; k++) {
          unit += L[i * n + k]! * X[k * n + j]!;
          unitSize += Math.abs(L[i * n + k]! * X[k * n + j]!);
        }
        if (!(Math.abs(sum - A[i * n + j]!) <= relative * size)) expect.fail(`L Lᵀ at ${i}, ${j}: ${sum} against ${A[i * n + j]}`);
        const want = i === j ? 1 : 0;
        if (!(Math.abs(unit - want) <= relative * unitSize * 4)) expect.fail(`L L⁻¹ at ${i}, ${j}: ${unit} ± ${relative * unitSize * 4}`);
      }
    }
  });

  it('an indefinite matrix is refused in a late block, too', async () => {
    const n = 300;
    const s = wasm.scope();
    const a = new Float32Array(n * n);
    for (let i = 0; i < n; i++) a[i * n + i] = 1;
    a[299 * n] = 1.5; // 1 - 1.5² < 0 at the last pivot
    expect(s.cholesky(s.upload(matrix(a, n, n))).ok).toBe(false);
    s.dispose();
  });
});
