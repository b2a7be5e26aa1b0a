/**
 * Collects the statistics of a model into a file. Each finished block goes to a working folder beside the output, so that memory holds one
 * block and an interrupted run goes on where it stopped; the file appears under its name only whole.
 * @module
 */
import { type ByteSink, type ByteSource, writeImatrix, writeLegacyImatrix, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { type Backend, checkInteger, checkOneOf, LmqError, type LongCallOpts } from '@lmq/tensor';
import { calibrateBlocks } from '../calibrate-blocks.js';
import { openFisher, type SavedFisher } from '../fisher.js';
import { type InputSquares, imatrixOf } from '../importance.js';
import {
  describeArchitecture,
  openStatistics,
  type SavedInput,
  type Statistics,
  type StatisticsOrigin,
  savedInput,
  toStatistics,
} from '../statistics.js';
import { fileStores } from './activation-files.js';
import { collectInFolder, type FisherFacts } from './calibrate-fisher.js';
import { checkOutput } from './check-output.js';
import { fingerprintOf, modelDigest, policyPrint, windowsDigest } from './fingerprint.js';
import { guardWeights, type NonFiniteOpts } from './guard-weights.js';
import type { OpenModel } from './open-model.js';
import { resumePoint, type WorkFolder, withWorkFolder } from './work-folder.js';

export const CALIBRATION_FORMATS = ['statistics', 'fisher', 'imatrix', 'imatrix-dat'] as const;
export type CalibrationFormat = (typeof CALIBRATION_FORMATS)[number];

export interface CalibrateModelOpts extends LongCallOpts, NonFiniteOpts {
  backend: Backend;
  /** File to write. */
  output: string;
  /** Token windows to calibrate on. */
  calibration: ArrayLike<number>[];
  /**
   * `statistics` (default): whole sums, for GPTQ. `fisher`: squared gradients of every weight, for SqueezeLLM. `imatrix`, `imatrix-dat`: their diagonals, for the method ggml and for llama.cpp, as GGUF
   * or in the older container.
   */
  format?: CalibrationFormat;
  /** Name of the text in an importance matrix. */
  dataset?: string;
  /** As `Stage.minTokens`: experts that fewer tokens reach take all tokens. Not with `fisher`, where each token counts where it went. */
  minTokens?: number;
  /** Replace an existing output. Default false. */
  force?: boolean;
  /** Throw away what an interrupted run has left, instead of going on from it. Default false. */
  restart?: boolean;
}

export interface CalibrateModelReport {
  output: string;
  variant: string;
  /** Linear inputs whose sums were saved; of `fisher`, linears. */
  inputs: number;
  /** Of the calibration text. */
  tokens: number;
  /** Size of the file. */
  bytes: number;
  /** Of this run. */
  seconds: number;
  /** Blocks taken over from an interrupted run. */
  resumedBlocks: number;
  /** Inputs of experts that too few tokens reached: their sums are over all tokens. */
  starved: string[];
  /** Inputs that no token reached and that have no sums: such experts when `minTokens` is 0. Of `fisher`, linears whose sums are all 0. */
  unreached: string[];
}

type InputFacts = Omit<SavedInput, 'bytes'>;

/**
 * Runs the calibration windows through the original model and saves the Hessian sum of every linear input, or what `format` says.
 * @throws LmqError before any work: `file/exists` when the output is there and `force` is not set; `argument/value` for NaN or infinite
 * weights, unless `nonFinite` says otherwise; then what `calibrateBlocks` and `fisherBlocks` throw
 */
export async function calibrateModel(model: OpenModel, opts: CalibrateModelOpts): Promise<CalibrateModelReport> {
  const start = Date.now();
  const { backend, calibration, minTokens, signal, restart, force = false, format = 'statistics' } = opts;
  checkOneOf(format, 'format', CALIBRATION_FORMATS, 'calibrate');
  if (format === 'fisher' && minTokens !== undefined) {
    throw new LmqError('argument/option', 'minTokens has no meaning for Fisher information', {
      op: 'calibrate',
      found: minTokens,
      hint: 'Leave it out: each token counts where it went.',
    });
  }
  if (minTokens !== undefined) checkInteger(minTokens, 'minTokens', 0, Number.MAX_SAFE_INTEGER, 'calibrate');
  const { architecture } = model;
  const output = await checkOutput(opts.output, 'file', force, 'calibrate');
  const origin: StatisticsOrigin = {
    model: await modelDigest(model),
    architecture: describeArchitecture(architecture),
    calibration: windowsDigest(calibration),
    arithmetic: backend.variant,
  };
  const checkpoint = await guardWeights(model.checkpoint, opts);
  const fingerprint = {
    ...(await fingerprintOf(model, backend.variant)),
    work: format === 'fisher' ? 'fisher' : 'calibrate',
    'calibration text': origin.calibration,
    ...(minTokens !== undefined && { minTokens: String(minTokens) }),
    ...policyPrint(opts.nonFinite),
  };
  const place = { force, signal };
  const about = () => ({
    output: opts.output,
    variant: backend.variant,
    tokens: calibration.reduce((n, w) => n + w.length, 0),
    seconds: (Date.now() - start) / 1000,
  });
  if (format === 'fisher') {
    const common = { ...opts, checkpoint, architecture, origin, place };
    return withWorkFolder(output, { fingerprint, restart, keep: true }, async (work: WorkFolder<FisherFacts>) => {
      const found = await collectInFolder(work, output, common);
      return { ...found, ...about(), starved: [] };
    });
  }
  return withWorkFolder(output, { fingerprint, restart }, async (work: WorkFolder<InputFacts[]>) => {
    const resumedBlocks = work.finished.length;
    const sizes = calibration.map((w) => w.length * architecture.hidden);
    const resume = await resumePoint(work, sizes);
    for await (const block of calibrateBlocks({ ...opts, checkpoint, architecture, store: fileStores(work.path), resume })) {
      const facts = (input: string) => ({ reached: block.reached.get(input), share: block.shares.get(input) });
      const saved = [...block.hessians].map(([input, h]) => savedInput(input, h, facts(input)));
      await work.commit(
        block.layer,
        toStatistics(origin, saved).tensors,
        saved.map(({ bytes: _, ...facts }) => facts),
      );
    }
    const all = work.finished.flatMap(({ file, facts }) => facts.map((f) => ({ ...f, bytes: () => file.readBytes(f.input) })));
    const write = async (sink: ByteSink): Promise<number> => {
      if (format === 'statistics') {
        const { tensors, metadata } = toStatistics(origin, all);
        return writeSafetensors(sink, tensors, metadata);
      }
      const imatrix = await imatrixOf(architecture, all.map(diagonal), opts.dataset ?? 'calibration', opts);
      return format === 'imatrix' ? writeImatrix(sink, imatrix) : writeLegacyImatrix(sink, imatrix);
    };
    let bytes = 0;
    await writeFileAtomic(output, async (sink) => (bytes = await write(sink)), { ...place, beforeRename: work.placing });
    return {
      ...about(),
      inputs: all.length,
      bytes,
      resumedBlocks,
      starved: all.flatMap((i) => (i.reached === undefined ? [] : i.input)),
      unreached: all.flatMap((i) => (i.tokens ? [] : i.input)),
    };
  });
}

/** The diagonal of a sum that was saved. */
function diagonal({ input, width, tokens, sequences, bytes }: SavedInput): InputSquares {
  const squares = async () => {
    const view = new DataView((await bytes()).slice().buffer);
    return Float32Array.from({ length: width }, (_, i) => view.getFloat32(4 * i * (width + 1), true));
  };
  return { input, tokens, sequences, squares };
}

/**
 * Opens statistics of `model`. The caller closes them.
 * @throws LmqError `argument/value` for statistics of another model, naming what differs; what `openStatistics` throws
 */
export const openStatisticsFile = (path: string, model: OpenModel): Promise<Statistics> => openSaved(openStatistics, path, model);

/**
 * Opens Fisher information of `model`. The caller closes it.
 * @throws LmqError as `openStatisticsFile`
 */
export const openFisherFile = (path: string, model: OpenModel): Promise<SavedFisher> => openSaved(openFisher, path, model);

async function openSaved<T extends { origin: StatisticsOrigin }>(
  open: (source: ByteSource) => Promise<T>,
  path: string,
  model: OpenModel,
): Promise<T> {
  const source = await fileSource(path);
  try {
    const saved = await open(source);
    await checkOrigin(saved.origin, path, model);
    return saved;
  } catch (e) {
    await source.close();
    throw e;
  }
}

async function checkOrigin(origin: StatisticsOrigin, path: string, model: OpenModel): Promise<void> {
  const differ = (what: string, expected: string, found: string) => {
    if (expected === found) return;
    throw new LmqError('argument/value', `the statistics are of another ${what}`, {
      op: 'statistics',
      file: path,
      expected,
      found,
      hint: 'Calibrate this model: lmq calibrate.',
    });
  };
  differ('architecture', describeArchitecture(model.architecture), origin.architecture);
  differ('model', await modelDigest(model), origin.model);
}
