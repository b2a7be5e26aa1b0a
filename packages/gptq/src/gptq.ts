/**
 * GPTQ (Frantar, Ashkboos, Hoefler, Alistarh 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
 * arXiv 2210.17323): round to nearest, column by column, with the error of each column made up for by the columns after it, as far as the
 * second moment H of the layer's inputs allows. Reference: IST-DASLab/gptq. Damping ladder: ModelCloud/GPTQModel.
 *
 * A grid is uniform, three values (trits), or a table of 16 times a scale for each group (`table`; NF4: Dettmers et al. 2023, arXiv 2305.14314).
 *
 * Steps: one scale per row (or tensor) is fitted before dead columns are zeroed; dead columns; static groups; act-order or group-aware
 * order; damping and factor; with a cross term, GPTAQ; or FOEM; sweep. Differences from the reference: a group's scale is fitted to the weights as
 * they are when the sweep reaches the group (the reference's are stale inside a block, so that its result depends on the block size;
 * `referenceCompat` brings that back; the losses are alike), ties of diag(H) keep their order, and the factor comes from one factorization
 * (`@lmq/quant-core/obs/inverse-factor`).
 *
 * Arithmetic is the backend's float32; the loss and error sums are float64. About 2 in³ / 3 + out · in² multiply-adds, with GPTAQ in³ more.
 * Peak memory of the backend, H included: 3 in² floats while H is factored, before the weights are uploaded; then in the sweep in² (2 in²
 * with GPTAQ or FOEM; in² more when H was given as a handle) + out · in · 5/4 + out · (2 blockSize + 2 groups) floats. The host holds strips of 128
 * rows, and the weights.
 * @module
 */
import { bitsPerWeight, decode } from '@lmq/formats';
import { jsBackend } from '@lmq/kernels-js';
import {
  type AffineParams,
  backendProxyLoss,
  checkDamping,
  checkFinite,
  dampedFactor,
  obsQuantize,
  type Quantized,
  resolveScheme,
  type Scheme,
} from '@lmq/quant-core';
import { checkInteger, checkOneOf, contiguous, type Handle, LmqError, type Matrix, matrix, matrixShape, type Tensor } from '@lmq/tensor';
import { aim } from './_asymmetry.js';
import { holdBack } from './_first-order.js';
import { fittedGrids, fixedGrids } from './_grids.js';
import { crossTermOf, hessianOf } from './_inputs.js';
import { type GptqWeight, gridKind } from './_kind.js';
import { actOrder, groupAwareOrder, permuteColumns, restoreColumns } from './_order.js';
import type { GptqOpts, GptqReport } from './api.js';

type GptqResult = Quantized<GptqReport, GptqWeight>;

/**
 * Quantizes a matrix.
 * @param w [out, in], finite
 * @param h [in, in]: Σ Xᵀ X of the inputs up to a factor, from `createHessian`; a tensor, or a handle of `opts.backend`. Neither is changed.
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinity in `w`, `h` or the cross term),
 * `backend/memory`; or `signal.reason` when aborted
 */
export async function gptq(
  w: Tensor,
  h: Tensor | Handle,
  opts: GptqOpts & { trits?: false; table?: undefined },
): Promise<Quantized<GptqReport>>;
export async function gptq(w: Tensor, h: Tensor | Handle, opts: GptqOpts): Promise<GptqResult>;
export async function gptq(w: Tensor, h: Tensor | Handle, opts: GptqOpts): Promise<GptqResult> {
  const start = performance.now();
  const [rows, cols] = matrixShape(w, 'gptq');
  checkTable(opts);
  const scheme = resolveScheme(opts.table === undefined ? opts : { ...opts, symmetric: true, scaleFormat: 'fp32' }, rows, cols, 'gptq');
  const kind = gridKind(opts);
  const { blockSize = 128, backend = jsBackend(), signal } = opts;
  checkInteger(blockSize, 'blockSize', 1, Number.MAX_SAFE_INTEGER, 'gptq');
  checkDamping(opts, 'gptq');
  checkOrder(opts);
  checkFinite(w, 'the weight', 'gptq');
  signal?.throwIfAborted();

  const s = backend.scope({ signal });
  try {
    const { hessian, diagonal } = await hessianOf(s, h, cols);
    const uploaded = 'data' in h;
    const current = Float32Array.from(contiguous(w));
    const importance = scheme.clip.method === 'imatrix' ? Float64Array.from(diagonal) : undefined; // before dead columns get 1
    let params = scheme.granularity === 'group' ? null : kind.fit(matrix(current, rows, cols), scheme, importance);
    const dead = silence(diagonal, current, rows);
    const order = opts.actOrder ? actOrder(diagonal) : opts.groupAware ? groupAwareOrder(diagonal, scheme.block[1]) : null;
    const swept = order && importance ? importance.map((_, i) => importance[order[i]!]!) : importance;
    if (!params && opts.staticGroups) {
      const ordered = opts.staticGroups === 'ordered' && order;
      const cut = ordered ? permuteColumns(current, rows, order) : current;
      params = kind.fit(matrix(cut, rows, cols), scheme, ordered ? swept : importance);
    }

    const { dampPercent, dampIncrement } = opts;
    const damped = await dampedFactor(s, hessian, diagonal, { dampPercent, dampIncrement, order: order ?? undefined });
    if (uploaded) s.free(hessian); // room for the weights; the report uploads it again
    const facts = {
      method: 'gptq' as const,
      dampPercent: damped.dampPercent,
      diagonalFloor: damped.diagonalFloor,
      deadColumns: dead.reduce((n, d) => n + d, 0),
      backend: backend.variant,
    };
    const finish = async (weight: GptqResult['weight'], rest: { fallback: 'rtn' | null; loss?: number }): Promise<GptqResult> => {
      const decoded = decode(weight);
      const cross = opts.gptaq && ('data' in opts.gptaq.crossTerm ? s.upload(opts.gptaq.crossTerm) : opts.gptaq.crossTerm);
      const original = uploaded ? s.upload(h) : hessian;
      const { relative, asymmetric } = await backendProxyLoss(s, w, decoded, original, { cross });
      const report: GptqReport = {
        ...facts,
        bits: scheme.bits,
        groupSize: opts.groupSize ?? -1,
        symmetric: scheme.symmetric,
        ...(scheme.trits && { trits: true as const }),
        ...(opts.table !== undefined && { table: opts.table }),
        bitsPerWeight: bitsPerWeight(weight),
        relativeError: relativeError(w, decoded),
        proxyLoss: relative,
        ...(asymmetric !== undefined && { asymmetricLoss: asymmetric }),
        ...rest,
        seconds: (performance.now() - start) / 1000,
      };
      return { weight, report };
    };
    if (!damped.factor) return await finish(kind.nearest(w, importance), { fallback: 'rtn' });

    const weights = s.upload(matrix(order ? permuteColumns(current, rows, order) : current, rows, cols));
    const { alpha = 0.25, crossTerm } = opts.gptaq ?? { alpha: 0 };
    let drift: Handle | undefined;
    if (crossTerm && alpha !== 0) {
      drift = await crossTermOf(s, crossTerm, cols, order, dead);
      await aim(s, weights, damped.factor, drift, alpha, scheme.referenceCompat ? blockSize : null);
      if (params || !scheme.referenceCompat) {
        s.free(drift);
        drift = undefined;
      }
    }
    if (opts.foem) await holdBack(s, damped.factor, opts.foem.beta ?? 0.2, scheme.referenceCompat ? blockSize : null);
    const used = params ?? emptyParams(scheme, rows);
    const grids = params
      ? fixedGrids(s, rows, kind, params)
      : fittedGrids(s, weights, kind, scheme, swept, used, scheme.referenceCompat, drift);
    const groupOf = groupsInOrder(scheme, cols, opts.staticGroups === true || opts.groupAware ? order : null);
    const { onProgress } = opts;
    const { codes, loss } = await obsQuantize(s, weights, damped.factor, {
      bits: scheme.bits,
      blockSize,
      groupOf,
      ...grids,
      signal,
      onProgress,
    });
    const found = (await s.readCodes(codes)).data;
    for (const done of [codes, weights, damped.factor, drift]) if (done) s.free(done);
    const grouped = scheme.groups > 1 && order && opts.actOrder && opts.staticGroups !== true;
    const weight = kind.store(
      scheme,
      [rows, cols],
      order ? restoreColumns(found, rows, order) : found,
      used,
      grouped ? groupIndexOf(order, scheme.block[1]) : undefined,
    );
    return await finish(weight, { fallback: null, loss });
  } finally {
    s.dispose();
  }
}

/** @throws LmqError `argument/option` */
function checkOrder({ actOrder, groupAware, staticGroups = false, gptaq, foem }: GptqOpts): void {
  if (actOrder && groupAware) {
    throw new LmqError('argument/option', 'actOrder and groupAware exclude each other', {
      op: 'gptq',
      expected: 'one of them',
      hint: 'groupAware needs no group index in the file; actOrder orders freely.',
    });
  }
  checkOneOf(String(staticGroups), 'staticGroups', ['true', 'false', 'ordered'], 'gptq');
  if (staticGroups === 'ordered' && !actOrder) {
    throw new LmqError('argument/option', "staticGroups: 'ordered' needs actOrder", {
      op: 'gptq',
      hint: 'Set actOrder, or staticGroups: true.',
    });
  }
  const beta = foem?.beta ?? 0;
  if (!(beta >= 0 && beta <= 1)) {
    throw new LmqError('argument/option', 'foem.beta is out of range', { op: 'gptq', expected: '0 <= beta <= 1', found: beta });
  }
  if (gptaq && foem) throw new LmqError('argument/option', 'gptaq and foem exclude each other', { op: 'gptq', expected: 'one of them' });
  const alpha = gptaq?.alpha ?? 0;
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new LmqError('argument/option', 'gptaq.alpha is out of range', { op: 'gptq', expected: '0 <= alpha <= 1', found: alpha });
  }
}

/** A table has nothing of an affine grid but groups. @throws LmqError `argument/option` */
function checkTable(opts: GptqOpts): void {
  const { table, bits, actOrder, staticGroups } = opts;
  if (table === undefined) return;
  checkOneOf(table, 'table', ['nf4', 'fp4', 'af4'], 'gptq');
  if (bits !== 4) throw new LmqError('argument/option', 'a table has 16 values', { op: 'gptq', expected: 'bits 4', found: bits });
  const foreign = (['symmetric', 'trits', 'preset', 'clip', 'scaleFormat', 'granularity'] as const).find(
    (name) => opts[name] !== undefined,
  );
  if (foreign)
    throw new LmqError('argument/option', `${foreign} is no option of a table`, {
      op: 'gptq',
      found: opts[foreign],
      hint: 'Leave it out.',
    });
  if (actOrder && opts.groupSize !== undefined && opts.groupSize !== -1 && staticGroups !== true) {
    throw new LmqError('argument/option', 'a table has no group index for groups in act-order', {
      op: 'gptq',
      hint: 'Set staticGroups: true, or groupAware instead of actOrder.',
    });
  }
}

/** Inputs that never fired: unit diagonal, so that H can be factored, and zero weights. Returns 1 for each of them. */
function silence(diagonal: Float64Array, w: Float32Array, rows: number): Uint8Array {
  const cols = diagonal.length;
  const dead = new Uint8Array(cols);
  for (let c = 0; c < cols; c++) {
    if (diagonal[c] !== 0) continue;
    dead[c] = 1;
    diagonal[c] = 1;
    for (let r = 0; r < rows; r++) w[r * cols + c] = 0;
  }
  return dead;
}

function emptyParams(scheme: Scheme, rows: number): AffineParams {
  const n = rows * scheme.groups;
  return { scales: new Float32Array(n), zeroPoints: new Float32Array(n), rows, groups: scheme.groups };
}

/** Group of each column of the sweep. With static groups a column keeps the group of its original place. */
function groupsInOrder(scheme: Scheme, cols: number, order: Int32Array | null): Int32Array {
  return Int32Array.from({ length: cols }, (_, i) => Math.floor((order ? order[i]! : i) / scheme.block[1]));
}

/** Group of each original column, when groups were cut from the permuted matrix. */
function groupIndexOf(order: Int32Array, size: number): Int32Array {
  const index = new Int32Array(order.length);
  for (let i = 0; i < order.length; i++) index[order[i]!] = Math.floor(i / size);
  return index;
}

/** ‖W − Ŵ‖ / ‖W‖. */
function relativeError(w: Tensor, decoded: Matrix): number {
  const a = contiguous(w);
  const b = decoded.data;
  let errors = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i++) {
    const e = a[i]! - b[i]!;
    errors += e * e;
    norm += a[i]! * a[i]!;
  }
  return errors === 0 ? 0 : Math.sqrt(errors / norm);
}
