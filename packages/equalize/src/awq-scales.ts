/**
 * Scale search of AWQ (Lin et al. 2023, "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978): channels with large inputs are
 * multiplied before rounding, so that their weights lose less, and the input is divided by as much.
 *
 *     s = x̄^r,   or with duo scaling x̄^r / w̄^(1 - r);   s ← s / √(max s · min s);   r = 0, 1/20 … 19/20
 *     Ŵ = Q(W s) / s;   the r with the smallest error of the output wins, the first of equals
 *
 * x̄: mean |x| of a channel; w̄: mean over rows of |w| relative to the largest of its quantization group. References: mit-han-lab/llm-awq
 * auto_scale.py; AutoAWQ quantizer.py (duo scaling).
 *
 * Differences, which `referenceCompat` takes back: channels that were always zero keep scale 1 (theirs get the floor 1e-4, which drags all
 * others up by the normalization), and duo scaling also tries no scales at all (theirs may end up worse than plain rounding).
 *
 * Cost: for each candidate the linears are rounded once and `outputError` is asked once. Without it, out · in² / 2 multiply-adds a linear.
 * Memory: two copies of the linears, and H where it is used.
 * @module
 */
import { jsBackend } from '@lmq/kernels-js';
import { checkFinite } from '@lmq/quant-core';
import {
  checkInteger,
  contiguous,
  createPhase,
  type Handle,
  LmqError,
  type Matrix,
  matrix,
  matrixShape,
  type Scope,
  type Tensor,
} from '@lmq/tensor';
import { groupWidth, magnitudes, roundToGrid, scaleColumns, searchScheme } from './_group.js';
import type { AwqGroup, AwqScalesOpts, AwqScalesReport, Equalized, GroupLinear } from './api.js';

const f = Math.fround;
const FLOOR = f(1e-4);
/** Columns that the quadratic form goes over at a time. */
const BLOCK = 512;

/**
 * Searches the scales of a group of linears that read the same input.
 * @returns scales for `foldScales`: columns of the linears times s, what feeds them divided by s
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN, infinity, or no candidate with a finite error); `signal.reason`
 */
export async function awqScales(group: AwqGroup, opts: AwqScalesOpts = {}): Promise<Equalized<AwqScalesReport>> {
  const start = performance.now();
  const op = 'awqScales';
  const { linears, outputError } = group;
  const { duoScaling = false, referenceCompat = false, backend = jsBackend(), signal } = opts;
  const grid = checkInteger(opts.grid ?? 20, 'grid', 1, 1000, op);
  const weights = linears.map((l) => l.weight);
  const width = groupWidth(weights, group.stats.meanAbs, op);
  const x = magnitudes(group.stats.meanAbs, 'meanAbs', op);
  const schemes = linears.map((l) => l.grid && searchScheme(l.grid, matrixShape(l.weight, op)[0], width, op));
  if (!schemes.some(Boolean)) throw new LmqError('argument/option', 'no linear of the group will be quantized', { op, expected: 'a grid' });
  const w = duoScaling ? meanRelativeMagnitudes(linears, width) : null;

  const candidates: { ratio: number | null; scales: Float32Array }[] = [];
  if (w && !referenceCompat) candidates.push({ ratio: null, scales: new Float32Array(width).fill(1) });
  for (let k = 0; k < grid; k++) candidates.push({ ratio: k / grid, scales: candidate(x, w, k / grid, referenceCompat) });

  const s = backend.scope({ signal });
  try {
    const judge = outputError ?? (await quadraticError(s, weights, group.stats.hessian, width));
    const done = createPhase('search scales', candidates.length, 'candidates', opts);
    let best: { ratio: number | null; scales: Float32Array; error: number } | undefined;
    let plainError: number | undefined;
    for (const [i, { ratio, scales }] of candidates.entries()) {
      const rounded: Matrix[] = [];
      for (const [j, { weight }] of linears.entries()) rounded.push(await roundScaled(s, weight, scales, schemes[j]));
      const error = await judge(rounded);
      if (ratio === null || (ratio === 0 && !w)) plainError = error; // in the paper's form x̄^0 = 1
      if (error < (best?.error ?? Number.POSITIVE_INFINITY)) best = { ratio, scales, error };
      done(i + 1);
    }
    if (!best) {
      throw new LmqError('argument/value', 'every candidate has an output error that is not finite', {
        op,
        hint: 'Activations overflow: look at the weights of the blocks before.',
      });
    }
    return {
      scales: best.scales,
      report: {
        method: 'awq',
        ratio: best.ratio,
        duoScaling,
        error: best.error,
        ...(plainError !== undefined && { plainError }),
        seconds: (performance.now() - start) / 1000,
      },
    };
  } finally {
    s.dispose();
  }
}

/** s for one exponent, in float32 steps. */
function candidate(x: Float32Array, w: Float32Array | null, ratio: number, referenceCompat: boolean): Float32Array {
  const fixed = (c: number) => !referenceCompat && x[c] === 0;
  const scales = x.map((v, c) => {
    const from = f(v ** ratio);
    return Math.max(w ? f(from / f(f(w[c]! ** (1 - ratio)) + FLOOR)) : from, FLOOR);
  });
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (let c = 0; c < scales.length; c++) {
    if (fixed(c)) continue;
    low = Math.min(low, scales[c]!);
    high = Math.max(high, scales[c]!);
  }
  const middle = f(Math.sqrt(f(high * low)));
  return scales.map((v, c) => {
    const scaled = f(v / middle);
    return fixed(c) || !(scaled > 0 && scaled < Number.POSITIVE_INFINITY) ? 1 : scaled;
  });
}

/** w̄ over the rows of all linears. */
function meanRelativeMagnitudes(linears: readonly GroupLinear[], width: number): Float32Array {
  const sums = new Float64Array(width);
  let rows = 0;
  for (const { weight, grid } of linears) {
    const data = contiguous(weight);
    const size = grid?.groupSize === undefined || grid.groupSize < 0 ? width : grid.groupSize;
    for (let from = 0; from < data.length; from += size) {
      let largest = 0;
      for (let i = from; i < from + size; i++) largest = Math.max(largest, Math.abs(data[i]!));
      const over = f(largest + f(1e-6));
      for (let i = from; i < from + size; i++) sums[i % width]! += f(Math.abs(data[i]!) / over);
    }
    rows += data.length / width;
  }
  return Float32Array.from(sums, (v) => v / rows);
}

/** Q(W s) / s; without a grid W. */
async function roundScaled(
  s: Scope,
  weight: Tensor,
  scales: Float32Array,
  scheme: ReturnType<typeof searchScheme> | undefined,
): Promise<Matrix> {
  const [rows, cols] = matrixShape(weight, 'awqScales');
  if (!scheme) return matrix(contiguous(weight), rows, cols);
  const scaled = scaleColumns(weight, scales);
  const uploaded = s.upload(scaled);
  const rounded = roundToGrid(s, uploaded, scaled, scheme);
  const { data } = await s.read(rounded);
  s.free(uploaded);
  s.free(rounded);
  await s.flush();
  for (let at = 0; at < data.length; at += cols) for (let c = 0; c < cols; c++) data[at + c]! /= scales[c]!;
  return matrix(data, rows, cols);
}

/** Σ tr(E H Eᵀ) / Σ tr(W H Wᵀ): the squared error of the linears' own outputs, relative to these. */
async function quadraticError(
  s: Scope,
  weights: readonly Tensor[],
  h: Tensor | Handle | undefined,
  width: number,
): Promise<(rounded: readonly Matrix[]) => Promise<number>> {
  const op = 'awqScales';
  if (!h) throw new LmqError('argument/option', 'nothing to judge by', { op, expected: 'stats.hessian or outputError' });
  const [rows, cols] = 'data' in h ? matrixShape(h, op) : [h.rows, h.cols];
  if (rows !== width || cols !== width) {
    throw new LmqError('argument/shape', 'the Hessian does not fit the weights', {
      op,
      expected: `${width} x ${width}`,
      found: `${rows} x ${cols}`,
    });
  }
  if ('data' in h) checkFinite(h, 'the Hessian', op);
  const hessian = 'data' in h ? s.upload(h) : h;
  /** tr(E H Eᵀ): what lies left of the diagonal counts twice, because H is symmetric. */
  const form = async (e: Matrix): Promise<number> => {
    const { data } = e;
    const uploaded = s.upload(e);
    const product = (first: number, last: number, cols: [number, number]) => {
      const [left, right] = [s.view(uploaded, [0, uploaded.rows], [first, last]), s.view(hessian, [first, last], cols)];
      const out = s.gemm(left, right);
      s.free(left);
      s.free(right);
      return out;
    };
    let sum = 0;
    for (let from = 0; from < width; from += BLOCK) {
      const to = Math.min(from + BLOCK, width);
      const part = product(from, to, [from, to]);
      if (from > 0) {
        const before = product(0, from, [from, to]);
        s.addTo(part, before, 2);
        s.free(before);
      }
      const found = (await s.read(part)).data;
      s.free(part);
      for (let at = from, i = 0; i < found.length; at += width) {
        for (let c = at; c < at + to - from; c++, i++) sum += found[i]! * data[c]!;
      }
    }
    s.free(uploaded);
    return sum;
  };
  let whole = 0;
  for (const w of weights) whole += await form(scaleColumns(w, new Float32Array(width).fill(1)));
  return async (rounded) => {
    let sum = 0;
    for (const [i, w] of weights.entries()) {
      const original = contiguous(w);
      const { data, shape } = rounded[i]!;
      sum += await form(
        matrix(
          original.map((v, j) => v - data[j]!),
          shape[0]!,
          width,
        ),
      );
    }
    return sum === 0 ? 0 : sum / whole;
  };
}
