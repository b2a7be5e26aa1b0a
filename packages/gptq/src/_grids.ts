/**
 * Where the sweep's scales come from: fitted before it, or to each group's weights when the sweep gets there.
 * @module
 */
import type { AffineParams, ObsQuantizeOpts, Scheme } from '@lmq/quant-core';
import type { Handle, Matrix, Scope } from '@lmq/tensor';
import { atRest } from './_asymmetry.js';
import type { GridKind } from './_kind.js';

/** The part of the sweep's options that decides scales. */
export type Grids = Pick<ObsQuantizeOpts, 'grid' | 'beforeBlock' | 'wholeGroups'>;

/** Values of one group, a row each; one for the whole tensor is every row's. */
function groupOf(values: Float32Array, { rows: own, groups }: AffineParams, rows: number, group: number): Float32Array {
  return Float32Array.from({ length: rows }, (_, r) => values[own === rows ? r * groups + group : 0]!);
}

/** Parameters known before the sweep, [rows, groups] or one for the whole tensor. */
export function fixedGrids(s: Scope, rows: number, kind: GridKind, params: AffineParams): Grids {
  const pick = (values: Float32Array, group: number) => groupOf(values, params, rows, group);
  return { wholeGroups: false, grid: (g) => kind.columns(s, pick(params.scales, g), pick(params.zeroPoints, g)) };
}

/**
 * Each group fitted when the sweep reaches it, from weights that hold the errors of all columns before. What is found goes to `params`.
 *
 * The reference (IST-DASLab/gptq) fits to the matrix as it was when the block began: the second and later groups of a block then get
 * scales for weights that have moved since. `stale` reproduces that.
 *
 * With GPTAQ the matrix already holds what the columns of the group will hand on to each other: the weights that the sweep will meet. The
 * reference fits to weights without it; `stale` with `drift`, the matrix P, reproduces that.
 *
 * `importance` is that of the columns in sweep order.
 */
export function fittedGrids(
  s: Scope,
  w: Handle,
  kind: GridKind,
  scheme: Scheme,
  importance: Float64Array | undefined,
  params: AffineParams,
  stale: boolean,
  drift?: Handle,
): Grids {
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
        const found = kind.fit(await weights(start), one, importance?.subarray(start, start + size));
        for (let r = 0; r < rows; r++) {
          params.scales[r * params.groups + group] = found.scales[r]!;
          params.zeroPoints[r * params.groups + group] = found.zeroPoints[r]!;
        }
      }
      return kind.columns(s, groupOf(params.scales, params, rows, group), groupOf(params.zeroPoints, params, rows, group));
    },
  };
}
