/**
 * How fast a backend is now, for estimates. The stage is tried on a small linear until it is compiled: how long that took shows what a real
 * run, which begins as slowly, will spend on it.
 * @module
 */
import { dense, encodeFloats } from '@lmq/formats';
import { type ActivationRangeOpts, createActivationObserver, createCrossTerm, createHessian, rtnLinear } from '@lmq/quant-core';
import { type Backend, createRng, type Linear, matrix } from '@lmq/tensor';
import type { Stage } from './api.js';
import { calibrates, isAsymmetric } from './plan.js';
import { quantizeLinear } from './quantize-linear.js';

/** Operations per second of a backend. */
export interface Rates {
  /** Multiply-adds counted as two, in matrix products. */
  gemm: number;
  /** Multiply-adds of attention scores and mixing counted as two, softmax included in the time. */
  attention: number;
  /** Numbers through what goes between products: gated activations, and about as fast norms, rotations, sums and copies. */
  pointwise: number;
  /** T n² operations of an X^T X update. */
  syrk: number;
  /** out in² operations of an OBS sweep with its trailing updates. */
  sweep: number;
  /** n³ / 3 each of Cholesky and triangular inverse. */
  factor: number;
  /** Weights decoded, rounded, packed and loaded. */
  round: number;
  /** Weights through what the stage does to them besides: ranges, work on the host, the report. */
  rest: number;
  /** Values of inputs through what finds their range, by its `rangeKey`. */
  observe: ReadonlyMap<string, number>;
}

/**
 * Measures a backend, and the stage on it, for about a second.
 * @param stage what most linears will go through, if any do
 * @param ranges ways of finding the range of an input, by `rangeKey`
 * @param now a clock in milliseconds: of the processor, where there is one, so that what else the machine does is not counted
 * @returns the rates, and how long the measured work should have taken at them: what it took longer is what warming up costs
 */
export async function measureRates(
  backend: Backend,
  stage: Stage | undefined,
  ranges: ReadonlyMap<string, ActivationRangeOpts> = new Map(),
  now = () => performance.now(),
): Promise<{ rates: Rates; seconds: number }> {
  const n = 256;
  const rng = createRng(1);
  const s = backend.scope();
  let seconds = 0;
  try {
    const a = s.upload(
      matrix(
        Float32Array.from({ length: n * n }, () => rng.normal()),
        n,
        n,
      ),
    );
    const h = s.alloc(n, n);
    const time = async (operations: number, work: () => unknown, atLeastMs = 60) => {
      await work();
      const runs: number[] = [];
      const end = performance.now() + atLeastMs;
      do {
        const from = now();
        await work();
        await s.flush();
        runs.push(now() - from);
      } while (performance.now() < end);
      runs.sort((a, b) => a - b);
      const median = runs[runs.length >> 1]! / 1000; // real work meets the same neighbours and collections
      seconds += median * (runs.length + 1);
      return operations / median;
    };
    const out = s.alloc(n, n);
    const gemm = await time(2 * n ** 3, () => s.gemm(a, a, { transposeB: true, out }));
    const headDim = 32;
    const attention = await time(2 * n * n * n, () => s.free(s.attention(a, a, a, { heads: n / headDim, kvHeads: n / headDim, headDim })));
    const pointwise = await time(n * n, () => s.free(s.glu(a, a, 'silu')));
    const syrk = await time(n ** 3, () => s.syrk(h, a, { beta: 0 }));
    const eye = s.upload(
      matrix(
        Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
        n,
        n,
      ),
    );
    const factor = await time((2 * n ** 3) / 3, () => {
      const { factor: l } = s.cholesky(eye);
      s.free(s.triangularInverse(l));
      s.free(l);
    });
    const block = 128;
    const grid = {
      scales: s.upload(matrix(new Float32Array(n).fill(0.3), n, 1)),
      zeroPoints: s.upload(matrix(new Float32Array(n).fill(8), n, 1)),
      bits: 4,
    };
    const codes = s.alloc(n, block, 'u8');
    const errors = s.alloc(n, block);
    const w = s.copy(a);
    const sweep = await time(n * block * block, () => s.obsSweep(w, eye, { start: 0, end: block, blockEnd: block, grid, codes, errors }));
    const data = encodeFloats(
      'bf16',
      Float32Array.from({ length: n * n }, () => rng.normal()),
    );
    const linear: Linear = { weight: dense('bf16', data, n, n) };
    const round = await time(n * n, () => {
      for (const l of [linear, rtnLinear(linear, {}, { bits: 4 }).linear]) backend.load(l).dispose();
    });
    const observe = new Map<string, number>();
    for (const [key, range] of ranges) {
      const observer = createActivationObserver(range);
      observe.set(key, await time(n * n, async () => observer.add(await s.read(a)), 300)); // until it is compiled
    }
    const rates: Rates = { gemm, attention, pointwise, syrk, factor, sweep, round, rest: Number.POSITIVE_INFINITY, observe };
    if (stage) {
      const own = await timeStage(backend, stage, now);
      seconds += own.seconds * own.runs;
      const rest = own.seconds - linearSeconds(stage, own.width, own.width, rates);
      if (rest > 0) rates.rest = own.width ** 2 / rest;
    }
    return { rates, seconds };
  } finally {
    s.dispose();
  }
}

/** Seconds of quantizing a small linear once everything is compiled, and how often it was done: a real run begins as slowly. */
async function timeStage(backend: Backend, stage: Stage, now: () => number): Promise<{ seconds: number; runs: number; width: number }> {
  const width = 256;
  const rng = createRng(2);
  const normal = (rows: number) =>
    matrix(
      Float32Array.from({ length: rows * width }, () => rng.normal()),
      rows,
      width,
    );
  const linear: Linear = { weight: dense('bf16', encodeFloats('bf16', normal(width).data), width, width) };
  const s = backend.scope();
  const x = s.upload(normal(2 * width));
  const hessian = createHessian(backend, width);
  const crossTerm = createCrossTerm(backend, width);
  try {
    hessian.add(x);
    crossTerm.add(x, x);
    const fits = stage.groupSize < 0 || width % stage.groupSize === 0;
    const own = fits ? stage : { ...stage, groupSize: 64 };
    const statistics = calibrates(stage) ? { hessian, crossTerm } : undefined;
    const squares = normal(width);
    squares.data.set(squares.data.map((v) => v * v));
    const fisher = async () => squares;
    const runs: number[] = [];
    const start = now();
    const enough = () => now() - start > (runs.length < 24 ? 800 : 400);
    do {
      const from = now();
      await quantizeLinear({ name: 'estimate' }, linear, statistics, own, { backend, fisher });
      runs.push((now() - from) / 1000);
    } while (!enough());
    runs.sort((a, b) => a - b);
    return { seconds: runs[runs.length >> 2]!, runs: runs.length, width }; // a quartile: many of the first ones compile
  } finally {
    hessian.dispose();
    crossTerm.dispose();
    s.dispose();
  }
}

/** Seconds of quantizing a linear, its files not counted. */
export function linearSeconds(stage: Stage, out: number, n: number, rates: Rates): number {
  const weights = out * n;
  let seconds = weights / rates.round + weights / rates.rest;
  if (stage.method !== 'gptq') return seconds;
  const block = Math.min(stage.blockSize, n);
  const reported = 2 * 256 * n ** 2; // the loss over a sample of rows
  seconds += (2 * n ** 3) / 3 / rates.factor + (weights * block) / rates.sweep + (weights * n + reported) / rates.gemm;
  if (isAsymmetric(stage)) seconds += (aimOperations(out, n) + reported) / rates.gemm;
  if (stage.foem !== false) seconds += (2 * n ** 3) / 3 / rates.gemm;
  return seconds;
}

/** What GPTAQ adds: the drift, and two forward substitutions, in blocks of columns that small matrices have few of. */
function aimOperations(out: number, n: number): number {
  const block = 128;
  let operations = 0;
  for (let from = 0; from < n; from += block) {
    const to = Math.min(from + block, n);
    const size = to - from;
    operations += 4 * size * (n - from) ** 2 + 2 * (out + to) * size * to;
  }
  return operations;
}
