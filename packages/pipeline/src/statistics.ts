/**
 * Saved statistics: the Hessian sums of every linear input of an original model, so that a sweep over bits calibrates once.
 *
 * A safetensors file. One tensor an input, named as `Site.input`: Σ Xᵀ X, float32 [width, width]. Metadata, all strings: `lmq.statistics`
 * (the version of this format), `lmq.model`, `lmq.architecture`, `lmq.calibration`, `lmq.arithmetic` (where the sums come from), and for
 * each input `<input>.tokens` and `<input>.sequences`, for those of starved experts `<input>.reached`, and inside blocks `<input>.share`. The file is somebody else's: read strictly, and sums are looked at before use.
 * @module
 */
import { type ByteSource, openSafetensors, type TensorToWrite } from '@lmq/checkpoints';
import { decode } from '@lmq/formats';
import type { Architecture } from '@lmq/model';
import { type Hessian, scaleSum } from '@lmq/quant-core';
import { type ErrorFacts, LmqError, type Matrix } from '@lmq/tensor';
import { calibrates, hasStaticInput, isAsymmetric, type PlannedSite } from './plan.js';
import type { InputStatistics } from './quantize-linear.js';

const VERSION = '1';

/** Where statistics come from. */
export interface StatisticsOrigin {
  /** Tells models apart: their weights and everything that decides their arithmetic. */
  model: string;
  /** For people; see {@link describeArchitecture}. */
  architecture: string;
  /** Tells calibration texts apart. */
  calibration: string;
  /** Variant of the backend. */
  arithmetic: string;
}

/** The sum of one input, before it is written. */
export interface SavedInput {
  input: string;
  width: number;
  tokens: number;
  sequences: number;
  /** Of a starved expert: tokens that reached it, while the sum is over all tokens. */
  reached?: number;
  /** See `InputStatistics.share`. */
  share?: number;
  /** Σ Xᵀ X, [width, width] float32 little-endian. */
  bytes(): Promise<Uint8Array>;
}

/** Statistics of a file. Sums are read when they are asked for. */
export interface Statistics {
  /** Name of the file. */
  readonly file: string;
  readonly origin: StatisticsOrigin;
  readonly inputs: ReadonlyMap<string, Omit<SavedInput, 'input' | 'bytes'>>;
  /** What was collected of an input; undefined when there is none of that name. `read` throws `file/format` for what no sum can be. */
  of(input: string): InputStatistics | undefined;
  close(): Promise<void>;
}

/** A running Hessian as an input to be saved. */
export function savedInput(
  input: string,
  { width, tokens, sequences, sum, backend }: Hessian,
  { reached, share }: Pick<SavedInput, 'reached' | 'share'> = {},
): SavedInput {
  const bytes = async () => {
    const s = backend.scope();
    try {
      const { data } = await s.read(sum);
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    } finally {
      s.dispose();
    }
  };
  return { input, width, tokens, sequences, ...(reached !== undefined && { reached }), ...(share !== undefined && { share }), bytes };
}

/** What to hand to `writeSafetensors`. */
export function toStatistics(
  origin: StatisticsOrigin,
  inputs: readonly SavedInput[],
): { tensors: TensorToWrite[]; metadata: Record<string, string> } {
  const metadata: Record<string, string> = { 'lmq.statistics': VERSION };
  for (const [key, value] of Object.entries(origin)) metadata[`lmq.${key}`] = value;
  for (const { input, tokens, sequences, reached, share } of inputs) {
    metadata[`${input}.tokens`] = String(tokens);
    metadata[`${input}.sequences`] = String(sequences);
    if (reached !== undefined) metadata[`${input}.reached`] = String(reached);
    if (share !== undefined) metadata[`${input}.share`] = String(share);
  }
  const tensors = inputs.map(({ input, width, bytes }) => ({ name: input, shape: [width, width], dtype: 'F32', bytes }));
  return { tensors, metadata };
}

/**
 * Opens a statistics file and checks everything but the sums. The source stays the caller's when this throws.
 * @throws LmqError `file/format` for a file of something else; `file/*` when it is damaged
 */
export async function openStatistics(source: ByteSource): Promise<Statistics> {
  const saved = await openSafetensors(source);
  const file = source.name;
  const bad = (what: string, facts: ErrorFacts): never => {
    throw new LmqError('file/format', what, { op: 'statistics', file, hint: 'Make the file with lmq calibrate.', ...facts });
  };
  const text = (key: string): string => {
    const value = saved.metadata.get(key);
    return typeof value === 'string' ? value : bad('these are no statistics of lmq', { expected: `${key} in the metadata` });
  };
  const count = (key: string): number => {
    const value = text(key);
    return /^\d{1,15}$/.test(value) ? Number(value) : bad('a count is not a number', { expected: key, found: value });
  };
  const version = text('lmq.statistics');
  if (version !== VERSION) bad('the statistics have another version', { expected: VERSION, found: version });
  const origin: StatisticsOrigin = {
    model: text('lmq.model'),
    architecture: text('lmq.architecture'),
    calibration: text('lmq.calibration'),
    arithmetic: text('lmq.arithmetic'),
  };
  const inputs = new Map<string, Omit<SavedInput, 'input' | 'bytes'>>();
  for (const { name, shape } of saved.tensors.values()) {
    const [width = 0, other] = shape;
    if (saved.dtype(name) !== 'F32' || shape.length !== 2 || width !== other || width === 0) {
      bad('a sum is not a square matrix', { tensor: name, expected: 'F32 [n, n]', found: `${saved.dtype(name)} [${shape.join(', ')}]` });
    }
    const tokens = count(`${name}.tokens`);
    const sequences = count(`${name}.sequences`);
    if (sequences > tokens || (tokens > 0 && sequences === 0)) {
      bad('the counts contradict each other', { tensor: name, found: `${tokens} tokens in ${sequences} sequences` });
    }
    const reached = saved.metadata.has(`${name}.reached`) ? count(`${name}.reached`) : undefined;
    if (reached !== undefined && reached > tokens) {
      bad('the counts contradict each other', { tensor: name, found: `${reached} of ${tokens} tokens reached it` });
    }
    const share = saved.metadata.has(`${name}.share`) ? Number(text(`${name}.share`)) : undefined; // not in older files
    if (share !== undefined && !(share >= 0 && share < Infinity)) bad('a share is no number', { tensor: name, found: share });
    inputs.set(name, { width, tokens, sequences, ...(reached !== undefined && { reached }), ...(share !== undefined && { share }) });
  }
  return {
    file,
    origin,
    inputs,
    of(input) {
      const own = inputs.get(input);
      if (!own) return undefined;
      const read = async () => {
        const sum = decode(await saved.read(input));
        const wrong = whatIsWrong(sum);
        if (wrong) bad('this is no sum of squares', { tensor: input, found: wrong });
        return scaleSum(sum, own.sequences);
      };
      const { tokens, reached, share } = own;
      return { hessian: { tokens, read }, ...(reached !== undefined && { reached }), ...(share !== undefined && { share }) };
    },
    close: () => saved.close(),
  };
}

/** Squares on the diagonal, the same number on both sides of it, and no NaN or infinity. */
function whatIsWrong({ data, shape: [n] }: Matrix): string | undefined {
  for (let i = 0; i < n!; i++) {
    for (let j = 0; j <= i; j++) {
      const v = data[i * n! + j]!;
      const mirrored = data[j * n! + i]!;
      if (v === mirrored && Number.isFinite(v)) continue;
      if (!Number.isFinite(v)) return `${v} at [${i}, ${j}]`;
      if (!Number.isFinite(mirrored)) return `${mirrored} at [${j}, ${i}]`;
      return `[${i}, ${j}] and [${j}, ${i}] differ`;
    }
    if (data[i * n! + i]! < 0) return `${data[i * n! + i]} at [${i}, ${i}]`;
  }
  return undefined;
}

/**
 * Refuses statistics that cannot serve a plan.
 * @throws LmqError `argument/option` for options that calibrate on quantized weights; `argument/value` for statistics of another model
 */
export function checkStatistics(statistics: Statistics, planned: readonly PlannedSite[]): void {
  const { file, inputs } = statistics;
  for (const { site, stage, in: width } of planned) {
    const live = isAsymmetric(stage)
      ? 'gptaq'
      : hasStaticInput(stage)
        ? 'a static input'
        : calibrates(stage) && stage.trueSequential
          ? 'trueSequential'
          : undefined;
    if (live) {
      throw new LmqError('argument/option', `${live} and saved statistics exclude each other`, {
        op: 'quantize',
        file,
        hint: `${live} calibrates on weights that are already quantized; saved statistics are of the original model. Calibrate on text instead.`,
      });
    }
    if (calibrates(stage) && stage.minTokens !== undefined) {
      throw new LmqError('argument/option', 'minTokens and saved statistics exclude each other', {
        op: 'quantize',
        file,
        hint: 'Which experts take all tokens was decided when the statistics were collected: give it to lmq calibrate.',
      });
    }
    const own = inputs.get(site.input);
    if (own?.width === width) continue;
    throw new LmqError('argument/value', 'the statistics are of another model', {
      op: 'quantize',
      file,
      tensor: site.input,
      expected: `${width} columns`,
      found: own ? `${own.width} columns` : 'no such input',
      hint: 'Calibrate this model: lmq calibrate.',
    });
  }
}

/** An architecture in a line, for people. */
export function describeArchitecture(a: Architecture): string {
  const width = a.mlp.intermediate;
  const mlp = a.moe ? `${a.moe.experts} x ${width}, ${a.moe.topK} used` : `${width}`;
  return `${a.family}, ${a.layers} layers x ${a.hidden}, heads ${a.heads} + ${a.kvHeads} x ${a.headDim}, mlp ${mlp}, vocab ${a.vocab}`;
}
