/**
 * Quantizes a model into a file or folder. Each finished block goes to a working folder beside the output, so that memory holds one
 * block and an interrupted run goes on where it stopped; the output is then assembled from those parts and the untouched tensors of the
 * source, and appears under its name only whole.
 * @module
 */
import { basename, resolve } from 'node:path';
import { lmqManifest, openLmq, toLmqTensors } from '@lmq/checkpoints';
import { type Backend, LmqError, type LongCallOpts } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';
import type { Importance } from '../importance.js';
import { stack } from '../overlay.js';
import { planSites } from '../plan.js';
import { type BlockResult, quantizeBlocks } from '../quantize-blocks.js';
import { checkStatistics, type Statistics } from '../statistics.js';
import { fileStores } from './activation-files.js';
import { checkOutput } from './check-output.js';
import { exportGguf } from './export-gguf.js';
import { exportLmq } from './export-lmq.js';
import { exportOnnx } from './export-onnx.js';
import { type Fingerprint, fileState, fingerprintOf, policyPrint, windowsDigest } from './fingerprint.js';
import { guardWeights, type NonFiniteOpts } from './guard-weights.js';
import type { OpenModel } from './open-model.js';
import { planGguf } from './plan-gguf.js';
import { resumePoint, type WorkFolder, withWorkFolder } from './work-folder.js';

/** With `nonFinite: 'warn'` the linears to quantize must still be finite. */
export interface QuantizeModelOpts extends LongCallOpts, NonFiniteOpts {
  backend: Backend;
  recipe: Recipe;
  /** File (GGUF) or folder (lmq, onnx) to write. */
  output: string;
  /** Token windows to calibrate on. */
  calibration?: ArrayLike<number>[];
  /** Saved statistics of this model, to use instead; see `openStatisticsFile`. */
  statistics?: Statistics;
  /** For the method ggml: what an error in each column costs. Default: as if all columns mattered alike. */
  importance?: Importance;
  /** GGUF: tensor bytes in one file; more are written in parts, as llama.cpp's gguf-split does. Default: everything in one. */
  maxShardBytes?: number;
  /** Replace an existing output. Default false. */
  force?: boolean;
  /** Throw away what an interrupted run has left, instead of going on from it. Default false. */
  restart?: boolean;
}

export interface QuantizeModelReport {
  /** What to open: the file, the folder, or the first part of several. */
  output: string;
  /** Method of the stage, `none` for a copy. */
  method: string;
  variant: string;
  /** Over all quantized linears, everything they need counted. */
  bitsPerWeight: number;
  /** Size of the written tensors. */
  bytes: number;
  /** Of this run. */
  seconds: number;
  /** Blocks taken over from an interrupted run. */
  resumedBlocks: number;
  layers: LayerReport[];
  /** What the export changed, if anything. */
  notes: string[];
}

/** What the working folder says of a block: its manifest as an lmq folder, and its reports. */
interface BlockFacts {
  manifest: string;
  layers: LayerReport[];
}

/**
 * Runs a recipe from one model to one output.
 * @throws LmqError before any work: `file/exists` when the output is there and `force` is not set; `argument/value` for NaN or infinite
 * weights, unless `nonFinite` says otherwise; then what `quantizeBlocks` throws
 */
export async function quantizeModel(model: OpenModel, opts: QuantizeModelOpts): Promise<QuantizeModelReport> {
  const start = Date.now();
  const { recipe, backend, statistics, restart, nonFinite } = opts;
  const { architecture, folder } = model;
  if (!folder) {
    throw new LmqError('model/unsupported', 'a GGUF file cannot be quantized again', {
      op: 'quantize',
      found: model.name,
      hint: 'Start from the original Hugging Face folder.',
    });
  }
  const isGguf = recipe.export.startsWith('gguf:');
  const output = await checkOutput(opts.output, isGguf ? 'file' : 'folder', opts.force ?? false, 'quantize');
  const planned = planSites(model.checkpoint, architecture, recipe); // refuses what cannot be done before anything is written
  if (statistics) checkStatistics(statistics, planned);
  checkImportance(opts.importance, recipe);
  if (opts.maxShardBytes !== undefined && !isGguf) {
    throw new LmqError('argument/option', 'the size of parts is for GGUF files', {
      op: 'quantize',
      found: recipe.export,
      hint: 'Leave it out.',
    });
  }
  const gguf = { folder, architecture, recipe, name: basename(resolve(folder)), importance: opts.importance };
  if (isGguf) await planGguf(model.checkpoint, gguf); // refuses what llama.cpp would not run
  const checkpoint = await guardWeights(model.checkpoint, opts);
  const calibration = opts.calibration ?? [];
  const fingerprint: Fingerprint = {
    ...(await fingerprintOf(model, backend.variant)),
    recipe: JSON.stringify({ stages: recipe.stages, include: recipe.include, overrides: recipe.overrides }),
    ...(statistics
      ? { statistics: JSON.stringify([statistics.origin, await fileState(statistics.file)]) }
      : { 'calibration text': windowsDigest(calibration) }),
    ...policyPrint(nonFinite),
  };
  return withWorkFolder(output, { fingerprint, restart }, async (work: WorkFolder<BlockFacts>) => {
    const resumedBlocks = work.finished.length;
    const sizes = calibration.map((w) => w.length * architecture.hidden);
    const resume = await resumePoint(work, sizes);
    for await (const block of quantizeBlocks({ ...opts, checkpoint, architecture, store: fileStores(work.path), resume }))
      await commit(work, block);

    const quantized = work.finished.flatMap((b) => b.facts.layers);
    const result = stack(
      checkpoint,
      work.finished.map((b) => openLmq(b.facts.manifest, b.file)),
    );
    const shared = { ...opts, folder, output, beforeRename: work.placing };
    const written =
      recipe.export === 'lmq'
        ? { layers: [], files: [output], ...(await exportLmq(result, { ...shared, layers: quantized })) }
        : recipe.export === 'onnx'
          ? { layers: [], files: [output], ...(await exportOnnx(result, { ...shared, architecture })) }
          : await exportGguf(result, { ...shared, ...gguf });
    const { bytes, notes } = written;
    const layers = [...quantized, ...written.layers];
    const weights = layers.reduce((sum, l) => sum + l.weights, 0);
    return {
      output: written.files.length > 1 ? written.files[0]! : opts.output,
      method: recipe.stages[0]?.method ?? 'none',
      variant: backend.variant,
      bitsPerWeight: weights ? layers.reduce((sum, l) => sum + l.bitsPerWeight * l.weights, 0) / weights : 0,
      bytes,
      seconds: (Date.now() - start) / 1000,
      resumedBlocks,
      layers,
      notes,
    };
  });
}

/** @throws LmqError `argument/option` for importances that nothing would weigh */
export function checkImportance(importance: Importance | undefined, recipe: Recipe): void {
  if (!importance || recipe.stages[0]?.method === 'ggml') return;
  throw new LmqError('argument/option', 'importances are for the method ggml', {
    op: 'quantize',
    found: recipe.stages[0]?.method ?? 'no method',
    hint: 'Leave them out, or the method.',
  });
}

function commit(work: WorkFolder<BlockFacts>, { layer, weights, layers }: BlockResult): Promise<void> {
  const packed = [...weights].map(([name, t]) => [name, toLmqTensors(name, t)] as const);
  const manifest = lmqManifest(packed.map(([name, p]) => [name, p.entry]));
  return work.commit(
    layer,
    packed.flatMap(([, p]) => p.tensors),
    { manifest, layers },
  );
}
