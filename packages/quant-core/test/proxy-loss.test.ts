import { jsBackend } from '@lmq/kernels-js';
import { backendProxyLoss, proxyLoss } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { expect, it } from 'vitest';

function normal(rows: number, cols: number, seed: number): Matrix {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
}
const w = normal(7, 12, 1);
const decoded = normal(7, 12, 2);
const x = normal(40, 12, 3);
const h = matrix(new Float32Array(144), 12, 12);
for (let i = 0; i < 12; i++)
  for (let j = 0; j < 12; j++) for (let t = 0; t < 40; t++) h.data[i * 12 + j]! += x.data[t * 12 + i]! * x.data[t * 12 + j]!;

/** ‖A Xᵀ‖² of rows of A: what the trace stands for. */
function outputs(a: (i: number) => number, rows: number[]): number {
  let sum = 0;
  for (const r of rows) {
    for (let t = 0; t < 40; t++) {
      let y = 0;
      for (let c = 0; c < 12; c++) y += a(r * 12 + c) * x.data[t * 12 + c]!;
      sum += y * y;
    }
  }
  return sum;
}

it('is the squared error of the outputs', () => {
  const all = [0, 1, 2, 3, 4, 5, 6];
  const { loss, relative } = proxyLoss(w, decoded, h);
  const want = outputs((i) => w.data[i]! - decoded.data[i]!, all);
  expect(Math.abs(loss / want - 1)).toBeLessThan(1e-5); // h is float32
  expect(Math.abs(relative / (want / outputs((i) => w.data[i]!, all)) - 1)).toBeLessThan(1e-5);
});

it('looks at evenly spaced rows when asked, and agrees with the backend', async () => {
  const { loss, relative } = proxyLoss(w, decoded, h, { maxRows: 3 });
  expect(Math.abs(loss / outputs((i) => w.data[i]! - decoded.data[i]!, [0, 2, 4]) - 1)).toBeLessThan(1e-5);
  const s = jsBackend().scope();
  const other = await backendProxyLoss(s, w, decoded, s.upload(h), { maxRows: 3 });
  expect(Math.abs(other.relative / relative - 1)).toBeLessThan(1e-5);
  s.dispose();
});

it('is zero for equal weights, also when they are all zero', () => {
  expect(proxyLoss(w, w, h)).toEqual({ loss: 0, relative: 0 });
  const none = matrix(new Float32Array(12), 1, 12);
  expect(proxyLoss(none, none, h)).toEqual({ loss: 0, relative: 0 });
});

it('refuses shapes that do not fit', () => {
  for (const run of [() => proxyLoss(w, normal(6, 12, 4), h), () => proxyLoss(w, decoded, normal(12, 11, 4))]) {
    let code = '';
    try {
      run();
    } catch (e) {
      if (isLmqError(e)) code = e.code;
    }
    expect(code).toBe('argument/shape');
  }
});
