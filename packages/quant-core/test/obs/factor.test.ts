import { jsBackend } from '@lmq/kernels-js';
import { dampedFactor, inverseFactor } from '@lmq/quant-core';
import { createRng, type Handle, type Matrix, matrix, type Scope } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const N = 40;
/** A well-conditioned Gram matrix. */
function gram(seed: number): Matrix {
  const rng = createRng(seed);
  const x = Float64Array.from({ length: 3 * N * N }, () => rng.normal());
  const h = matrix(new Float32Array(N * N), N, N);
  for (let i = 0; i < N; i++) {
    for (let j = 0; j < N; j++) {
      let sum = 0;
      for (let t = 0; t < 3 * N; t++) sum += x[t * N + i]! * x[t * N + j]!;
      h.data[i * N + j] = sum / (3 * N);
    }
  }
  return h;
}

/** A matrix as a handle, and its diagonal. */
function parts(s: Scope, data: Float32Array, n: number): [Handle, Float64Array] {
  return [s.upload(matrix(data, n, n)), Float64Array.from({ length: n }, (_, i) => data[i * n + i]!)];
}

/** Largest |(Uᵀ U H - I)_ij|, and whether U is upper triangular. */
function residue(u: Float32Array, h: Float32Array): { error: number; upper: boolean } {
  let error = 0;
  let upper = true;
  const inverse = new Float64Array(N * N);
  for (let i = 0; i < N; i++) {
    for (let j = 0; j < N; j++) {
      if (j < i && u[i * N + j] !== 0) upper = false;
      for (let k = 0; k < N; k++) inverse[i * N + j]! += u[k * N + i]! * u[k * N + j]!;
    }
  }
  for (let i = 0; i < N; i++) {
    for (let j = 0; j < N; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < N; k++) sum += inverse[i * N + k]! * h[k * N + j]!;
      error = Math.max(error, Math.abs(sum));
    }
  }
  return { error, upper };
}

describe('inverseFactor', () => {
  it('satisfies Uᵀ U H = I', async () => {
    const s = jsBackend().scope();
    const h = gram(1);
    const { factor } = inverseFactor(s, s.upload(h));
    const { error, upper } = residue((await s.read(factor!)).data, h.data);
    expect(upper).toBe(true);
    expect(error).toBeLessThan(1e-5); // float32, condition number about 20
    s.dispose();
  });

  it('follows a given order of columns', async () => {
    const s = jsBackend().scope();
    const h = gram(2);
    const order = createRng(3).shuffle([...Array(N).keys()]);
    const handle = s.upload(h);
    const { factor } = inverseFactor(s, handle, order);
    const permuted = (await s.read(s.select(handle, order, order))).data;
    expect(residue((await s.read(factor!)).data, permuted).error).toBeLessThan(1e-5);
    s.dispose();
  });

  it('is null for an indefinite matrix', () => {
    const s = jsBackend().scope();
    const h = gram(4);
    h.data[0] = -1;
    expect(inverseFactor(s, s.upload(h)).factor).toBeNull();
    s.dispose();
  });
});

describe('dampedFactor', () => {
  it('adds a part of the mean of the diagonal', async () => {
    const s = jsBackend().scope();
    const h = gram(5);
    let mean = 0;
    for (let i = 0; i < N; i++) mean += h.data[i * (N + 1)]! / N;
    const damped = await dampedFactor(s, ...parts(s, h.data, N), { dampPercent: 0.1 });
    expect(damped).toMatchObject({ dampPercent: 0.1, diagonalFloor: 0, tries: 1 });
    for (let i = 0; i < N; i++) h.data[i * (N + 1)]! += 0.1 * mean;
    expect(residue((await s.read(damped.factor!)).data, h.data).error).toBeLessThan(1e-5);
    s.dispose();
  });

  it('climbs in steps, then through six floors, then gives up', async () => {
    const s = jsBackend().scope();
    const pair = (off: number) => Float32Array.of(1, off, off, 1);
    expect(await dampedFactor(s, ...parts(s, pair(1.025), 2))).toMatchObject({ dampPercent: 0.03, diagonalFloor: 0, tries: 3 });
    const floored = await dampedFactor(s, ...parts(s, pair(2.05), 2), { dampPercent: 0, dampIncrement: 0.5 }); // 0, 0.5, then floors up to 0.1
    expect(floored).toMatchObject({ factor: null, dampPercent: 0.5, tries: 2 + 6 });
    const second = await dampedFactor(s, ...parts(s, pair(1.5000005), 2), { dampPercent: 0.5, dampIncrement: 0 });
    expect(second.factor).not.toBeNull();
    expect(second.diagonalFloor).toBeCloseTo(1e-6, 12);
    const negative = await dampedFactor(s, ...parts(s, Float32Array.of(-5, 0, 0, 1), 2), { dampIncrement: 0 });
    expect(negative.factor).not.toBeNull(); // entries below the floor are raised to it
    s.dispose();
  });

  it('stops when aborted', async () => {
    const control = new AbortController();
    const s = jsBackend().scope({ signal: control.signal });
    control.abort(new Error('stop'));
    await expect(dampedFactor(s, ...parts(s, gram(6).data, N))).rejects.toThrow('stop');
    s.dispose();
  });
});
