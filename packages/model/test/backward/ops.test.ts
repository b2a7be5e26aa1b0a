import { dense } from '@lmq/formats';
import { createRng, type Handle, matrix, type Scope } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import {
  attentionBackward,
  crossEntropyBackward,
  gluBackward,
  linearInputGradient,
  linearWeightGradient,
  rmsNormBackward,
  ropeBackward,
} from '../../src/index.js';
import { BACKENDS } from '../_support.js';
import * as double from './_double.js';

const rng = createRng(7);
/** Numbers that float32 holds, so that both sides start from the same. */
const normal = (rows: number, cols: number, size = 1) =>
  matrix(
    Float32Array.from({ length: rows * cols }, () => size * rng.normal()),
    rows,
    cols,
  );
/** The same cheaply, where there are millions. */
const waves = (rows: number, cols: number) =>
  matrix(
    new Float32Array(rows * cols).map((_, i) => Math.fround(Math.sin(i))),
    rows,
    cols,
  );
type Input = ReturnType<typeof normal>;
const rowsOf = ({ data, shape }: Input) => double.rowsOf(data, shape[1]!);
const product = (a: double.Rows, b: double.Rows) => a.reduce((sum, row, r) => row.reduce((s, v, c) => s + v * b[r]![c]!, sum), 0);

/** Float32 results against slopes in double: relative to the largest. */
function expectClose(found: ArrayLike<number>, wanted: ArrayLike<number>): void {
  expect(found.length).toBe(wanted.length);
  const largest = Array.from(wanted).reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  const off = Array.from(wanted).reduce((max, v, i) => Math.max(max, Math.abs(v - found[i]!)), 0);
  expect(off / largest).toBeLessThan(3e-6);
}

describe.each(Object.entries(BACKENDS))('gradients on %s are slopes', (variant, make) => {
  const large = it.skipIf(variant === 'js'); // the same code with larger sizes
  const within = async (use: (s: Scope) => Promise<void>) => {
    const s = (await make()).scope();
    try {
      await use(s);
    } finally {
      s.dispose();
    }
  };
  const read = async (s: Scope, h: Handle) => (await s.read(h)).data;

  it('of a linear layer', () =>
    within(async (s) => {
      const [x, w, dy] = [normal(5, 12), normal(7, 12), normal(5, 7)];
      const [xs, ws, c] = [rowsOf(x), rowsOf(w), rowsOf(dy)];
      const loaded = s.backend.load({ weight: dense('fp32', w.data, 7, 12) });
      const f = () => product(double.linear(xs, ws), c);
      expectClose(await read(s, linearInputGradient(s, s.upload(dy), loaded)), double.slopes(xs, f));
      expectClose(await read(s, linearWeightGradient(s, s.upload(dy), s.upload(x))), double.slopes(ws, f));
      const onTop = s.upload(x);
      linearInputGradient(s, s.upload(dy), loaded, onTop);
      expectClose(
        await read(s, onTop),
        double.slopes(xs, f).map((v, i) => v + x.data[i]!),
      );
      loaded.dispose();
    }));

  large('of a linear layer that is decoded in several tiles', () =>
    within(async (s) => {
      const [out, width] = [1100, 4096]; // 4.5 million weights, and tiles of 4.2
      const w = waves(out, width);
      const dy = normal(2, out);
      const loaded = s.backend.load({ weight: dense('fp32', w.data, out, width) });
      const dx = await read(s, linearInputGradient(s, s.upload(dy), loaded));
      for (const [r, c] of [
        [0, 0],
        [1, 4095],
      ] as const) {
        let sum = 0;
        for (let i = 0; i < out; i++) sum += dy.data[r * out + i]! * w.data[i * width + c]!;
        expect(Math.abs(dx[r * width + c]! - sum)).toBeLessThan(1e-3);
      }
      loaded.dispose();
    }),
  );

  it('of RMS norm and its weight', () =>
    within(async (s) => {
      const [x, w, dy] = [normal(4, 16), normal(1, 16), normal(4, 16)];
      const [xs, ws, c] = [rowsOf(x), rowsOf(w), rowsOf(dy)];
      const eps = 0.3; // large enough to show
      const { dx, dWeight } = await rmsNormBackward(s, s.upload(x), s.upload(w), s.upload(dy), eps);
      const f = () => product(double.rmsNorm(xs, ws[0]!, eps), c);
      expectClose(await read(s, dx), double.slopes(xs, f));
      expectClose(dWeight, double.slopes(ws, f));
    }));

  it.each(['half', 'interleaved'] as const)('of rotary embedding, %s, on part of each head', (style) =>
    within(async (s) => {
      const [x, dy, angles] = [normal(6, 24), normal(6, 24), normal(9, 4)];
      const [cos, sin] = [angles, angles].map((a, i) => matrix(a.data.map(i ? (v) => 1.5 * Math.sin(v) : (v) => 1.5 * Math.cos(v)), 9, 4));
      const dx = s.upload(dy);
      ropeBackward(s, dx, s.upload(cos!), s.upload(sin!), { headDim: 12, style });
      const [xs, c] = [rowsOf(x), rowsOf(dy)];
      const f = () => product(double.rope(xs, rowsOf(cos!), rowsOf(sin!), 12, style), c);
      expectClose(await read(s, dx), double.slopes(xs, f));
    }),
  );

  it.each(['silu', 'gelu-tanh'] as const)('of a gated unit with %s', (activation) =>
    within(async (s) => {
      const [gate, up, dy] = [normal(4, 9, 3), normal(4, 9), normal(4, 9)];
      const [gs, us, c] = [rowsOf(gate), rowsOf(up), rowsOf(dy)];
      const { dGate, dUp } = await gluBackward(s, s.upload(gate), s.upload(up), s.upload(dy), activation);
      const f = () => product(double.glu(gs, us, activation), c);
      expectClose(await read(s, dGate), double.slopes(gs, f));
      expectClose(await read(s, dUp), double.slopes(us, f));
    }),
  );

  it.each<[string, number, number, number, number, number | undefined]>([
    ['all keys', 5, 2, 2, 4, undefined],
    ['shared keys and a window', 11, 4, 2, 4, 3],
    ['a window and several tiles of queries', 67, 2, 1, 2, 5],
  ])('of attention: %s', (_, tokens, heads, kvHeads, headDim, window) =>
    within(async (s) => {
      const opts = { heads, kvHeads, headDim, scale: 0.4, window };
      const [q, k, v, dOut] = [heads, kvHeads, kvHeads, heads].map((n) => normal(tokens, n * headDim)) as [Input, Input, Input, Input];
      const [qs, ks, vs, c] = [rowsOf(q), rowsOf(k), rowsOf(v), rowsOf(dOut)];
      const { dq, dk, dv } = await attentionBackward(s, s.upload(q), s.upload(k), s.upload(v), s.upload(dOut), opts);
      const f = () => product(double.attention(qs, ks, vs, opts), c);
      expectClose(await read(s, dq), double.slopes(qs, f));
      expectClose(await read(s, dk), double.slopes(ks, f));
      expectClose(await read(s, dv), double.slopes(vs, f));
    }),
  );

  it('of the mean cross entropy of next tokens, and its value', () =>
    within(async (s) => {
      const [states, w] = [normal(6, 8), normal(10, 8)];
      const ids = [3, 9, 0, 0, 7, 1];
      const [xs, ws] = [rowsOf(states), rowsOf(w)];
      const head = s.backend.load({ weight: dense('fp32', w.data, 10, 8) });
      const { loss, dStates, dWeight } = await crossEntropyBackward(s, head, s.upload(states), ids, { weight: true });
      const f = () => double.crossEntropy(xs, ws, ids);
      expect(Math.abs(loss - f())).toBeLessThan(1e-6);
      expectClose(await read(s, dStates), double.slopes(xs, f));
      expectClose(await read(s, dWeight!), double.slopes(ws, f));
      await expect(crossEntropyBackward(s, head, s.upload(normal(1, 8)), [1])).rejects.toMatchObject({ code: 'argument/value' });
      await expect(crossEntropyBackward(s, head, s.upload(states), [1, 2])).rejects.toMatchObject({ code: 'argument/shape' });
      head.dispose();
    }));

  large('of the cross entropy when the logits do not fit at once', () =>
    within(async (s) => {
      const vocab = 2 ** 18 + 8; // 15 rows of logits are 16 MiB: two chunks
      const [states, w] = [normal(20, 2), waves(vocab, 2)];
      const ids = Array.from({ length: 20 }, (_, i) => 13 * i);
      const head = s.backend.load({ weight: dense('fp32', w.data, vocab, 2) });
      const { dStates } = await crossEntropyBackward(s, head, s.upload(states), ids);
      const found = await read(s, dStates);
      expect([...found.slice(38)]).toEqual([0, 0]);
      for (const r of [0, 15, 16, 18]) {
        const [a, b] = [states.get(r, 0), states.get(r, 1)];
        const sums = [0, 0, 0];
        for (let j = 0; j < 2 * vocab; j += 2) {
          const e = Math.exp(a * w.data[j]! + b * w.data[j + 1]!);
          for (const [i, x] of [e, e * w.data[j]!, e * w.data[j + 1]!].entries()) sums[i]! += x;
        }
        for (const d of [0, 1]) {
          const wanted = (sums[1 + d]! / sums[0]! - w.data[2 * ids[r + 1]! + d]!) / 19;
          expect(Math.abs(found[2 * r + d]! - wanted)).toBeLessThan(3e-7); // of about 0.03
        }
      }
      head.dispose();
    }),
  );
});
