/**
 * Clip search of AWQ (mit-han-lab/llm-awq auto_clip.py): in each row and quantization group, the largest magnitude m = m₀ (1 - i/20),
 * i = 0 … 9, for which rounding the weights clamped to ±m changes the group's part of the output least.
 *
 * The mean over tokens of (x_g · e)², e = Q(clamp(w)) - w, is eᵀ H_g e with the group's block H_g of the inputs' second moment. So all tokens
 * count at the price of few; the reference looks at 512 to 1023 of them. Give it H of such a sample to get the same. Queries and keys are
 * better left alone, because the error of their product is not the sum of theirs; that is the caller's choice.
 *
 * Cost: rows · in · groupSize · 10 multiply-adds. Ties keep the larger magnitude.
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
import { groupWidth, magnitudes, roundToGrid, searchScheme } from './_group.js';
import type { AwqClipOpts, AwqClipReport } from './api.js';

/**
 * Clamps a weight for the grid it will be rounded to.
 * @param weight [out, in], multiplied with `opts.scales` already
 * @param hessian of the input before it was divided by the scales, [in, in], a tensor or a handle of `opts.backend`
 * @returns the clamped weight, and by row and group the magnitude it was clamped to
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinity); `signal.reason`
 */
export async function awqClip(
  weight: Tensor,
  hessian: Tensor | Handle,
  opts: AwqClipOpts,
): Promise<{ weight: Matrix; maxima: Matrix; report: AwqClipReport }> {
  const start = performance.now();
  const op = 'awqClip';
  const [rows, cols] = matrixShape(weight, op);
  const { backend = jsBackend(), signal, maxShrink = 0.5 } = opts;
  const steps = checkInteger(opts.steps ?? 20, 'steps', 1, 1000, op);
  if (!(maxShrink > 0 && maxShrink <= 1)) {
    throw new LmqError('argument/option', 'maxShrink is out of range', { op, expected: '0 < maxShrink <= 1', found: maxShrink });
  }
  const given = opts.scales ?? new Float32Array(cols).fill(1);
  groupWidth([weight], given, op);
  const scales = magnitudes(given, 'scales', op);
  const zero = scales.indexOf(0);
  if (zero >= 0) throw new LmqError('argument/value', 'a scale is zero', { op, found: `channel ${zero}` });
  checkHessian(hessian, cols, op);
  const size = searchScheme(opts.grid, rows, cols, op).block[1];
  const groups = cols / size;
  const scheme = searchScheme({ ...opts.grid, groupSize: -1, granularity: 'channel' }, rows, size, op); // of one group
  const tries = Math.max(1, Math.floor(maxShrink * steps));

  const out = Float32Array.from(contiguous(weight));
  const maxima = new Float32Array(rows * groups);
  const errors = { plain: 0, best: 0 };
  let clipped = 0;
  const s = backend.scope({ signal });
  try {
    const h = 'data' in hessian ? s.upload(hessian) : hessian;
    const done = createPhase('search clips', groups, 'groups', opts);
    for (let g = 0; g < groups; g++) {
      const from = g * size;
      const block = await momentBlock(s, h, from, size, scales);
      const part = new Float32Array(rows * size);
      for (let r = 0; r < rows; r++) part.set(out.subarray(r * cols + from, r * cols + from + size), r * size);
      const largest = new Float32Array(rows);
      for (let i = 0; i < part.length; i++) {
        const r = Math.floor(i / size);
        largest[r] = Math.max(largest[r]!, Math.abs(part[i]!));
      }
      const original = s.upload(matrix(part, rows, size));
      const best = new Float64Array(rows).fill(Number.POSITIVE_INFINITY);
      const chosen = largest.slice();
      for (let i = 0; i < tries; i++) {
        const limits = largest.map((m) => m * Math.fround(1 - i / steps));
        const found = await errorsOf(s, original, matrix(clamp(part, size, limits), rows, size), block, scheme);
        for (let r = 0; r < rows; r++) {
          if (i === 0) errors.plain += found[r]!;
          if (!(found[r]! < best[r]!)) continue;
          best[r] = found[r]!;
          chosen[r] = limits[r]!;
        }
      }
      s.free(original);
      s.free(block);
      const kept = clamp(part, size, chosen);
      for (let r = 0; r < rows; r++) {
        errors.best += best[r]!;
        if (chosen[r]! < largest[r]!) clipped++;
        maxima[r * groups + g] = chosen[r]!;
        out.set(kept.subarray(r * size, (r + 1) * size), r * cols + from);
      }
      done(g + 1);
    }
  } finally {
    s.dispose();
  }
  return {
    weight: matrix(out, rows, cols),
    maxima: matrix(maxima, rows, groups),
    report: {
      method: 'awq-clip',
      clipped: clipped / (rows * groups),
      relativeError: errors.plain === 0 ? 1 : errors.best / errors.plain,
      seconds: (performance.now() - start) / 1000,
    },
  };
}

/** A group's block of H, as it is once the inputs are divided by the scales. */
async function momentBlock(s: Scope, h: Handle, from: number, size: number, scales: Float32Array): Promise<Handle> {
  const window = s.view(h, [from, from + size], [from, from + size]);
  const { data } = await s.read(window);
  s.free(window);
  for (let i = 0, at = 0; i < size; i++) {
    for (let j = 0; j < size; j++, at++) data[at] = data[at]! / (scales[from + i]! * scales[from + j]!);
  }
  return s.upload(matrix(data, size, size));
}

/** eᵀ H e of each row. */
async function errorsOf(
  s: Scope,
  original: Handle,
  clamped: Matrix,
  block: Handle,
  scheme: ReturnType<typeof searchScheme>,
): Promise<Float64Array> {
  const uploaded = s.upload(clamped);
  const e = roundToGrid(s, uploaded, clamped, scheme);
  s.addTo(e, original, -1);
  const product = s.gemm(e, block);
  const [a, b] = [(await s.read(e)).data, (await s.read(product)).data];
  for (const done of [uploaded, e, product]) s.free(done);
  await s.flush();
  const out = new Float64Array(original.rows);
  for (let i = 0; i < a.length; i++) out[Math.floor(i / original.cols)]! += a[i]! * b[i]!;
  return out;
}

function clamp(part: Float32Array, size: number, limits: Float32Array): Float32Array {
  return part.map((v, i) => {
    const m = limits[Math.floor(i / size)]!;
    return Math.min(Math.max(v, -m), m);
  });
}

function checkHessian(h: Tensor | Handle, width: number, op: string): void {
  const [rows, cols] = 'data' in h ? matrixShape(h, op) : [h.rows, h.cols];
  if (rows !== width || cols !== width) {
    throw new LmqError('argument/shape', 'the Hessian does not fit the weight', {
      op,
      expected: `${width} x ${width}`,
      found: `${rows} x ${cols}`,
    });
  }
  if ('data' in h) checkFinite(h, 'the Hessian', op);
}
