/**
 * Where the sweep's scales come from: fitted before it, or to each group's weights when the sweep gets there.
 * @module
 */
import { type AffineParams, fitScheme, type ObsQuantizeOpts, type Scheme } from '@lmq/quant-core';
import { type Handle, type Matrix, ndarray, type Scope } from '@lmq/tensor';
import { atRest } from './_asymmetry.js';

/** The part of the sweep's options that decides scales. */
export type Grids = Pick<ObsQuantizeOpts, 'grid' | 'beforeBlock' | 'wholeGroups'>;

/** One column of values. */
const column = (s: Scope, values: Float32Array) => s.upload(ndarray(values, [values.length, 1]));

/** Parameters known before the sweep, [rows, groups] or one for the whole tensor. */
export function fixedGrids(s: Scope, rows: number, params: AffineParams): Grids {
  const spread = (v: Float32Array) => ndarray(params.rows === rows ? v : new Float32Array(rows).fill(v[0]!), [rows, params.groups]);
  const scales = s.upload(spread(params.scales));
  const zeroPoints = s.upload(spread(params.zeroPoints));
  const pick = (h: Handle, g: number) => s.view(h, [0, rows], [g, g + 1]);
  return { wholeGroups: false, grid: (g) => ({ scales: pick(scales, g), zeroPoints: pick(zeroPoints, g) }) };
}

/**
 * Each group fitted when the sweep reaches it, from weights that hold the errors of all columns before. What is found goes to `params`.
 *
 * The reference (IST-DASLab/gptq) fits to the matrix as it was when the block began: the second and later groups of a block then get
 * scales for weights that have moved since. `stale` reproduces that.
 *
 * With GPTAQ the matrix already holds what the columns of the group will hand on to each other: the weights that the sweep will meet. The
 * reference fits to weights without it; `stale` with `drift`, the matrix P, reproduces that.
 */
export function fittedGrids(s: Scope, w: Handle, scheme: Scheme, params: AffineParams, stale: boolean, drift?: Handle): Grids {
  const size = scheme.block[1];
  const { rows, cols } = w;
  const one: Scheme = { ...scheme, groups: 1 };
  let snapshot: Matrix | null = null;
  let snapshotFrom = 0;
  const weights = async (from: number): Promise<Matrix> => {
    if (snapshot) return snapshot.lo(0, from - snapshotFrom).hi(rows, size);
    const view = s.view(w, [0, rows], [from, from + size]);
    const out = await s.read(view);
    s.free(view);
    return out;
  };
  return {
    wholeGroups: !stale,
    async beforeBlock(start, end) {
      if (!stale) return;
      const to = Math.min(cols, Math.ceil(end / size) * size);
      const view = s.view(w, [0, rows], [start, to]);
      const source = drift ? atRest(s, view, drift, start, to) : view;
      snapshot = await s.read(source);
      snapshotFrom = start;
      if (drift) s.free(source);
      s.free(view);
    },
    async grid(group, start) {
      if (start % size === 0) {
        const found = fitScheme(await weights(start), one);
        for (let r = 0; r < rows; r++) {
          params.scales[r * params.groups + group] = found.scales[r]!;
          params.zeroPoints[r * params.groups + group] = found.zeroPoints[r]!;
        }
      }
      const pick = (v: Float32Array) =>
        column(
          s,
          Float32Array.from({ length: rows }, (_, r) => v[r * params.groups + group]!),
        );
      return { scales: pick(params.scales), zeroPoints: pick(params.zeroPoints) };
    },
  };
}
