import { jsBackend } from '@lmq/kernels-js';
import { describe, expect, it } from 'vitest';
import {
  chunkRows,
  compare,
  klDivergence,
  logSumExp,
  negativeLogLikelihood,
  passkey,
  perplexity,
  readLogits,
  rowArgmax,
  windowsOf,
} from '../src/index.js';
import { tableModel } from './_support.js';

const backend = jsBackend();
const ln = Math.log;
// Next-token probabilities. Their logarithms are rounded to float32 as logits: 7 digits.
const P = [
  [0.5, 0.25, 0.25],
  [0.25, 0.5, 0.25],
  [0.125, 0.125, 0.75],
];
const Q = [
  [0.25, 0.5, 0.25],
  [0.25, 0.5, 0.25],
  [0.25, 0.25, 0.5],
];
const p = tableModel(
  backend,
  P.map((row) => row.map(ln)),
);
const q = tableModel(
  backend,
  Q.map((row) => row.map((x) => ln(x) + 7)),
); // a constant changes no softmax

describe('rows', () => {
  it('log-sum-exp neither overflows nor underflows', () => {
    expect(logSumExp(Float32Array.of(9, 1000, 1000), 1, 2)).toBe(1000 + ln(2));
    expect(logSumExp(Float32Array.of(-1000, -1000), 0, 2)).toBe(-1000 + ln(2));
    expect(logSumExp(Float32Array.of(0, -Infinity), 0, 2)).toBe(0);
    for (const bad of [
      [0, Number.NaN],
      [0, Infinity],
      [-Infinity, -Infinity],
    ]) {
      expect(() => logSumExp(Float32Array.from(bad), 0, 2)).toThrow(expect.objectContaining({ code: 'argument/value' }));
    }
  });
  it('loss and divergence of small cases', () => {
    expect(negativeLogLikelihood(Float32Array.of(0, 0, 0, 0), 0, 4, 2)).toBeCloseTo(ln(4), 15);
    // KL((1/2, 1/2) ‖ (3/4, 1/4)) = 1/2 ln(2/3) + 1/2 ln 2
    const a = Float32Array.of(0, 0);
    const b = Float32Array.of(ln(3), 0);
    expect(klDivergence(a, logSumExp(a, 0, 2), b, logSumExp(b, 0, 2), 0, 2)).toBeCloseTo(0.5 * ln(2 / 3) + 0.5 * ln(2), 7);
    expect(klDivergence(b, logSumExp(b, 0, 2), b, logSumExp(b, 0, 2), 0, 2)).toBe(0);
    const impossible = Float32Array.of(0, -Infinity); // 0 ln 0 = 0
    expect(klDivergence(impossible, 0, a, ln(2), 0, 2)).toBeCloseTo(ln(2), 15);
  });
  it('argmax takes the lowest of equals', () => {
    expect(rowArgmax(Float32Array.of(9, 1, 3, 3), 1, 3)).toBe(1);
  });
});

describe('windowsOf', () => {
  it('cuts whole windows only', () => {
    expect(windowsOf([1, 2, 3, 4, 5, 6, 7], 3).map((w) => [...(w as number[])])).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(windowsOf(Int32Array.of(1, 2, 3, 4), 2, 1)).toEqual([Int32Array.of(1, 2)]);
  });
  it('says what is missing', () => {
    const short = () => windowsOf([1, 2, 3], 2, 2);
    expect(short).toThrow(expect.objectContaining({ code: 'calibration/short' }));
    expect(short).toThrow(/2 windows of 2 tokens \(4\).*3 tokens.*longer text/);
    expect(() => windowsOf([], 2)).toThrow(expect.objectContaining({ code: 'calibration/short' }));
    expect(() => windowsOf([1, 2], 1)).toThrow(expect.objectContaining({ code: 'argument/option' }));
    expect(() => windowsOf([1, 2], 2, 0)).toThrow(expect.objectContaining({ code: 'argument/option' }));
  });
});

describe('perplexity', () => {
  it('is exp of the mean loss inside windows', async () => {
    // windows [0 1 1], [2 2 0], rest [1] left out: losses −ln of 1/4, 1/2, 3/4, 1/8
    const r = await perplexity(p, [0, 1, 1, 2, 2, 0, 1], { context: 3 });
    const nll = -(ln(0.25) + ln(0.5) + ln(0.75) + ln(0.125)) / 4;
    expect(r).toMatchObject({ tokens: 4, context: 3, windows: 2 });
    expect(r.nll).toBeCloseTo(nll, 6);
    expect(r.perplexity).toBeCloseTo(Math.exp(nll), 5);
    expect(r.seconds).toBeGreaterThanOrEqual(0);
  });
  it('with a begin token, first tokens count too', async () => {
    const r = await perplexity(p, [0, 1, 2], { context: 3, bos: 2 });
    expect(r.tokens).toBe(3);
    expect(r.nll).toBeCloseTo(-(ln(0.125) + ln(0.25) + ln(0.25)) / 3, 6);
  });
  it('checks that windows fit the model', async () => {
    const ids = new Int32Array(40);
    await expect(perplexity(p, ids, { context: 17 })).rejects.toMatchObject({ code: 'argument/option' });
    await expect(perplexity(p, ids, { context: 16, bos: 0 })).rejects.toThrow(/2 … 15.*16/);
    expect(await perplexity(p, ids)).toMatchObject({ context: 16, windows: 2 });
    await expect(perplexity(p, [0, 1, 2])).rejects.toMatchObject({ code: 'calibration/short' });
  });
  it('reports progress and stops', async () => {
    const seen: number[] = [];
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => {
      seen.push(done);
      if (done === 2) stop.abort(new Error('enough'));
    };
    await expect(perplexity(p, new Int32Array(40), { context: 4, onProgress, signal: stop.signal })).rejects.toThrow('enough');
    expect(seen).toEqual([0, 1, 2]);
  });
});

describe('compare', () => {
  it('KL, agreement and both perplexities', async () => {
    // positions with a next token: after 0, 1, 2
    const r = await compare(q, p, [0, 1, 2, 0], { context: 4 });
    const kl = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * ln(x / b[i]!), 0);
    expect(r.kl).toBeCloseTo((kl(P[0]!, Q[0]!) + 0 + kl(P[2]!, Q[2]!)) / 3, 6);
    expect(r.top1).toBe(2 / 3);
    expect(r.nll).toBeCloseTo(-(ln(0.5) + ln(0.25) + ln(0.25)) / 3, 6);
    expect(r.base.nll).toBeCloseTo(-(ln(0.25) + ln(0.25) + ln(0.125)) / 3, 6);
    expect(r.base.perplexity).toBe(Math.exp(r.base.nll));
    expect(r).toMatchObject({ tokens: 3, windows: 1, context: 4 });
  });
  it('is not symmetric: the base is on the left', async () => {
    const there = await compare(q, p, [2, 0], { context: 2 });
    const back = await compare(p, q, [2, 0], { context: 2 });
    expect(there.kl).not.toBeCloseTo(back.kl, 3);
  });
  it('a model against itself is exactly 0 and 1', async () => {
    expect(await compare(p, p, [0, 1, 2, 0], { context: 4 })).toMatchObject({ kl: 0, top1: 1 });
  });
  it('takes the shorter context, and refuses other vocabularies', async () => {
    const short = tableModel(
      backend,
      P.map((row) => row.map(ln)),
      8,
    );
    expect(await compare(p, short, new Int32Array(20))).toMatchObject({ context: 8, windows: 2 });
    await expect(compare(p, short, new Int32Array(20), { context: 9 })).rejects.toMatchObject({ code: 'argument/option' });
    await expect(compare(p, tableModel(backend, [[0]]), [0, 0])).rejects.toMatchObject({ code: 'argument/value' });
  });
});

describe('passkey', () => {
  // greedy: 0 → 0, 1 → 1, 2 → 2
  const right = { ids: [2, 2, 2, 0], answer_ids: [2, 2] };
  const half = { ids: [1, 1, 2, 0], answer_ids: [1, 2] };
  it('counts whole answers, and tokens', async () => {
    expect(await passkey(p, [right, half, right])).toEqual({ accuracy: 2 / 3, correct: 2, total: 3, tokenAccuracy: 5 / 6 });
  });
  it('takes an answer at a given place', async () => {
    expect((await passkey(p, [{ ids: [0, 0, 1, 1, 1], answer_ids: [0], answerAt: 1 }])).accuracy).toBe(1);
  });
  it('refuses a document without its answer in place', async () => {
    for (const bad of [
      { ids: [0, 1, 2], answer_ids: [2] },
      { ids: [0], answer_ids: [0] },
      { ...right, answerAt: 0 },
      { ids: [0, 1], answer_ids: [] },
    ]) {
      await expect(passkey(p, [right, bad])).rejects.toThrow(/document 1 /);
    }
    await expect(passkey(p, [])).rejects.toMatchObject({ code: 'argument/value' });
  });
});

describe('readLogits', () => {
  it('gives the rows asked for', async () => {
    const s = backend.scope();
    const states = await p.hidden(s, [0, 1, 2]);
    expect([...(await readLogits(p, s, states, 1, 3))]).toEqual([...Float32Array.from(P.slice(1).flat(), ln)]);
    s.dispose();
  });
  it('chunks hold at most 16 MB, at least one row', () => {
    expect([chunkRows(2 ** 20), chunkRows(2 ** 24), chunkRows(2048)]).toEqual([4, 1, 2048]);
  });
});
