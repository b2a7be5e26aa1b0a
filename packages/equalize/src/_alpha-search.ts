/**
 * Search of SmoothQuant's α: the one of a grid for which the group's outputs change least when weights (per row) and inputs (per token, or per
 * tensor) are rounded to 8 bits by their largest magnitude. On a sample of tokens; the first of equals wins.
 *
 * Cost: for each α and linear, tokens · in · out multiply-adds.
 * @module
 */
import { jsBackend } from '@lmq/kernels-js';
import { type AffineOpts, checkFinite, resolveScheme } from '@lmq/quant-core';
import { createPhase, type Handle, LmqError, type Matrix, matrixShape, type Scope } from '@lmq/tensor';
import { roundToGrid, scaleColumns } from './_group.js';
import type { SmoothGroup, SmoothQuantOpts } from './api.js';

const INT8: AffineOpts = { bits: 8, symmetric: true, preset: 'smoothquant', scaleFormat: 'fp32' };
const ALPHAS = Array.from({ length: 21 }, (_, i) => i / 20);

/** @param scalesOf scales for an α */
export async function searchAlpha(
  { linears, stats }: SmoothGroup,
  scalesOf: (alpha: number) => Float32Array,
  opts: SmoothQuantOpts,
): Promise<{ alpha: number; error: number; plainError: number }> {
  const op = 'smoothQuant';
  const { alphas = ALPHAS, activations = 'token', backend = jsBackend(), signal } = opts;
  const { sample } = stats;
  if (!sample) {
    throw new LmqError('argument/option', 'a search of alpha needs a sample of the input', { op, expected: 'stats.sample' });
  }
  if (!alphas.length)
    throw new LmqError('argument/option', 'alphas is empty', { op, expected: 'at least one number in 0 … 1', found: '[]' });
  const [tokens, width] = matrixShape(sample, op);
  if (width !== stats.absMax.length || tokens === 0) {
    throw new LmqError('argument/shape', 'the sample does not fit the weights', {
      op,
      expected: `some tokens x ${stats.absMax.length}`,
      found: `${tokens} x ${width}`,
    });
  }
  checkFinite(sample, 'the sample', op);
  const granularity = activations === 'token' ? 'channel' : 'tensor';
  const s = backend.scope({ signal });
  try {
    const outputs: Handle[] = [];
    const x = s.upload(sample);
    let whole = 0;
    for (const w of linears) {
      const uploaded = s.upload(w);
      const y = s.gemm(x, uploaded, { transposeB: true });
      s.free(uploaded);
      outputs.push(y);
      whole += squares((await s.read(y)).data);
    }
    const errorOf = async (scales: Float32Array): Promise<number> => {
      const rounded = round8(
        s,
        scaleColumns(
          sample,
          scales.map((v) => 1 / v),
        ),
        granularity,
      );
      let sum = 0;
      for (const [i, w] of linears.entries()) {
        const weight = round8(s, scaleColumns(w, scales), 'channel');
        const y = s.gemm(rounded, weight, { transposeB: true });
        s.addTo(y, outputs[i]!, -1);
        sum += squares((await s.read(y)).data);
        s.free(weight);
        s.free(y);
        await s.flush();
      }
      s.free(rounded);
      return whole === 0 ? 0 : sum / whole;
    };
    const plainError = await errorOf(new Float32Array(width).fill(1));
    const done = createPhase('search alpha', alphas.length, 'candidates', opts);
    let best = { alpha: alphas[0]!, error: Number.POSITIVE_INFINITY };
    for (const [i, alpha] of alphas.entries()) {
      const error = await errorOf(scalesOf(alpha));
      if (error < best.error) best = { alpha, error };
      done(i + 1);
    }
    return { ...best, plainError };
  } finally {
    s.dispose();
  }
}

function round8(s: Scope, m: Matrix, granularity: 'channel' | 'tensor'): Handle {
  const [rows, cols] = matrixShape(m, 'smoothQuant');
  const uploaded = s.upload(m);
  const out = roundToGrid(s, uploaded, m, resolveScheme({ ...INT8, granularity }, rows, cols, 'smoothQuant'));
  s.free(uploaded);
  return out;
}

function squares(data: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! * data[i]!;
  return sum;
}
