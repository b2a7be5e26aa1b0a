/**
 * One linear through the method that its stage names.
 * @module
 */
import { bitsPerWeight } from '@lmq/formats';
import { gptqLinear } from '@lmq/gptq';
import type { Site } from '@lmq/model';
import { type AffineOpts, type FallbackChoice, fallbackLinear, type PresetName, rtnLinear } from '@lmq/quant-core';
import { type Backend, type Linear, type Matrix, matrix, type Rescaled } from '@lmq/tensor';
import { isOwnGrid, type OwnGridMethod, quantizeOwnGrid, usesFisher } from './_own-grids.js';
import type { LayerReport, Stage } from './api.js';
import type { RangeObservers } from './input-quant.js';
import { isAsymmetric } from './plan.js';

export interface QuantizeLinearOpts {
  backend: Backend;
  signal?: AbortSignal;
  /** Σ of squared gradients [out, in], for stages that use them. */
  fisher?: () => Promise<Matrix>;
}

/** What is known of the inputs of a linear. A `Hessian` or `CrossTerm` of `@lmq/quant-core` fits. */
export interface InputStatistics {
  hessian: { readonly tokens: number; read(): Promise<Matrix> };
  /** For GPTAQ; of the same tokens. */
  crossTerm?: { read(): Promise<Matrix> };
  /** For static inputs; of the tokens that reached it. */
  ranges?: RangeObservers;
  /** When too few tokens reached it, how many did. The sums of an expert are then over all tokens, unless the stage has a fallback. */
  reached?: number;
  /**
   * How much of the residual stream the half of the block makes that the linear is in: mean over tokens of |h - x|² / |h|², where x becomes h.
   * Absent for the head, and where it was not looked at.
   */
  share?: number;
}

/**
 * Quantizes `linear`; `statistics` are those of its inputs, when there was calibration. A linear that no calibration token reached (an
 * expert, when `minTokens` is 0) is rounded to nearest, and of a `rescaled` weight the base is quantized, for the inputs times the factors. One with a `fallback` that too few reached is quantized by it, and reports say so.
 */
export async function quantizeLinear(
  { name }: Pick<Site, 'name'>,
  linear: Linear,
  statistics: InputStatistics | undefined,
  stage: Stage,
  { backend, signal, fisher }: QuantizeLinearOpts,
): Promise<{ linear: Linear; report: LayerReport }> {
  if (linear.weight.kind === 'rescaled') {
    const { base, inputScale } = linear.weight;
    const inner = await quantizeLinear(
      { name },
      { ...linear, weight: base },
      statistics && scaledStatistics(statistics, inputScale),
      stage,
      { backend, signal, ...(fisher && { fisher: async () => scaledFisher(await fisher(), inputScale) }) },
    );
    const weight: Rescaled = { ...linear.weight, base: inner.linear.weight };
    return { linear: { ...inner.linear, weight }, report: { ...inner.report, bitsPerWeight: bitsPerWeight(weight) } };
  }
  const { bits, symmetric, trits, groupSize, clip, scaleFormat, referenceCompat } = stage;
  const affine: AffineOpts = { bits, symmetric, trits, groupSize, clip, scaleFormat, referenceCompat, preset: stage.preset as PresetName };
  const [rows, cols] = linear.weight.shape;
  const seen = statistics && statistics.hessian.tokens > 0 ? statistics.hessian : undefined;
  const clipMethod = typeof clip === 'string' ? clip : clip.method;
  const common = {
    name,
    bits,
    groupSize,
    ...(trits && { trits: true as const }),
    ...(clipMethod !== 'minmax' && { clip: clipMethod }),
    weights: rows * cols,
    ...(seen && { tokens: statistics?.reached ?? seen.tokens }),
  };

  // a table that there is nothing to sweep with is the method of its name
  const method: OwnGridMethod | undefined = isOwnGrid(stage.method) ? stage.method : seen ? undefined : stage.table;
  if (method !== undefined) {
    const own = { ...stage, method };
    const stats = { ...(seen && { hessian: await seen.read() }), ...(fisher && usesFisher(own) && { fisher: await fisher() }) };
    const { linear: out, report, facts, note } = await quantizeOwnGrid(linear, stats, own, signal);
    const notes = note !== undefined ? [note] : [];
    if (stage.method === 'gptq') notes.push('no calibration token reached this linear: rounded to nearest');
    if (seen && statistics?.reached !== undefined)
      notes.push(`too few calibration tokens (${statistics.reached}): calibrated on all tokens`);
    return {
      linear: out,
      report: {
        ...common,
        method,
        ...facts,
        bitsPerWeight: report.bitsPerWeight,
        error: report.proxyLoss ?? report.relativeError ** 2,
        ...(notes.length && { fallback: notes.join('; ') }),
        seconds: report.seconds,
      },
    };
  }

  if (stage.method === 'rtn' || !seen || (stage.fallback !== undefined && statistics?.reached !== undefined)) {
    const stats = seen ? { hessian: await seen.read() } : {};
    const unknown = !seen && clipMethod === 'imatrix'; // then columns count alike
    const opts = unknown ? { ...affine, importance: new Float32Array(cols).fill(1) } : affine;
    const choice = stage.method === 'rtn' || stage.fallback === undefined ? undefined : choiceOf(stage.fallback);
    const { linear: out, report } = choice
      ? fallbackLinear(linear, stats, { ...opts, trits: false, granularity: undefined, ...choice })
      : rtnLinear(linear, stats, opts);
    const notes: string[] = [];
    if (choice) notes.push(`${statistics?.reached ?? 0} calibration tokens: ${describe(choice)}`);
    else if (stage.method !== 'rtn') notes.push('no calibration token reached this linear: rounded to nearest');
    else if (clipMethod === 'imatrix' && statistics?.reached !== undefined)
      notes.push(`too few calibration tokens (${statistics.reached}): calibrated on all tokens`);
    if (unknown) notes.push('no importances: inputs count alike');
    return {
      linear: out,
      report: {
        ...common,
        method: 'rtn',
        bitsPerWeight: report.bitsPerWeight,
        error: report.proxyLoss ?? report.relativeError ** 2,
        ...(notes.length && { fallback: notes.join('; ') }),
        seconds: report.seconds,
      },
    };
  }

  const fallbacks: string[] = [];
  if (statistics?.reached !== undefined) fallbacks.push(`too few calibration tokens (${statistics.reached}): calibrated on all tokens`);
  const { actOrder, groupAware, staticGroups, dampPercent, dampIncrement, blockSize, foem } = stage;
  const crossTerm = isAsymmetric(stage) ? await statistics!.crossTerm!.read() : undefined;
  const share = (option: boolean | number) => (typeof option === 'number' ? option : undefined); // the method has the default
  const { linear: out, report } = await gptqLinear(
    linear,
    { hessian: await seen.read() },
    {
      ...(stage.table === undefined ? affine : { bits, groupSize, table: stage.table }),
      actOrder,
      groupAware,
      staticGroups,
      dampPercent,
      dampIncrement,
      blockSize,
      ...(crossTerm && { gptaq: { crossTerm, alpha: share(stage.gptaq) } }),
      ...(foem !== false && { foem: { beta: share(foem) } }),
      backend,
      signal,
    },
  );
  if (report.fallback) fallbacks.push('the Hessian could not be factored with any damping: rounded to nearest');
  return {
    linear: out,
    report: {
      ...common,
      method: 'gptq',
      ...(stage.table !== undefined && { table: stage.table }),
      bitsPerWeight: report.bitsPerWeight,
      error: report.proxyLoss ?? report.relativeError ** 2,
      ...(report.loss !== undefined && { loss: report.loss }),
      ...(report.asymmetricLoss !== undefined && { asymmetricLoss: report.asymmetricLoss }),
      dampPercent: report.dampPercent,
      ...(report.diagonalFloor > 0 && { diagonalFloor: report.diagonalFloor }),
      deadColumns: report.deadColumns,
      ...(fallbacks.length && { fallback: fallbacks.join('; ') }),
      seconds: report.seconds,
    },
  };
}

/** The statistics of inputs whose channels are multiplied. */
function scaledStatistics({ hessian, crossTerm, reached }: InputStatistics, factors: Float32Array): InputStatistics {
  const scaled = (sum: { read(): Promise<Matrix> }) => async (): Promise<Matrix> => {
    const { data, shape } = await sum.read();
    const n = factors.length;
    const out = new Float32Array(data.length);
    for (let i = 0, at = 0; i < n; i++) for (let j = 0; j < n; j++, at++) out[at] = data[at]! * factors[i]! * factors[j]!;
    return matrix(out, shape[0]!, shape[1]!);
  };
  return {
    hessian: { tokens: hessian.tokens, read: scaled(hessian) },
    ...(crossTerm && { crossTerm: { read: scaled(crossTerm) } }),
    ...(reached !== undefined && { reached }),
  };
}

/** The squared gradients by the weights of the base: with w = b · factor, those by w times factor². */
function scaledFisher({ data, shape }: Matrix, factors: Float32Array): Matrix {
  const n = factors.length;
  return matrix(
    data.map((v, i) => v * factors[i % n]! ** 2),
    shape[0]!,
    shape[1]!,
  );
}

const choiceOf = (f: NonNullable<Stage['fallback']>): FallbackChoice => (typeof f === 'string' ? { strategy: f } : f);

/** A strategy in words. */
function describe({ strategy, smooth }: FallbackChoice): string {
  const smoother = typeof smooth === 'string' ? smooth : smooth?.method;
  return `quantized by fallback ${strategy}${smoother ? `, smoothed by ${smoother}` : ''}`;
}
