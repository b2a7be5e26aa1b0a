/**
 * Quantizes a model into a file or folder. Each finished block goes to a working folder beside the output, so that memory holds one
 * block and an interrupted run goes on where it stopped; the output is then assembled from those parts and the untouched tensors of the
 * source, and appears under its name only whole.
 * @module
 */
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { type Backend, isLmqError, LmqError, type LongCallOpts } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';
import { stack } from '../overlay.js';
import { planSites } from '../plan.js';
import { quantizeBlocks } from '../quantize-blocks.js';
import { fileStores, openActivations } from './activation-files.js';
import { exportGguf } from './export-gguf.js';
import { exportLmq } from './export-lmq.js';
import { exists, type OpenModel } from './open-model.js';
import { fingerprintOf, openWorkFolder, type WorkFolder } from './work-folder.js';

export interface QuantizeModelOpts extends LongCallOpts {
  backend: Backend;
  recipe: Recipe;
  /** File (GGUF) or folder (lmq) to write. */
  output: string;
  /** Token windows to calibrate on. */
  calibration?: ArrayLike<number>[];
  /** Replace an existing output. Default false. */
  force?: boolean;
  /** Throw away what an interrupted run has left, instead of going on from it. Default false. */
  restart?: boolean;
}

export interface QuantizeModelReport {
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

/**
 * Runs a recipe from one model to one output.
 * @throws LmqError `file/exists` when the output is there and `force` is not set, before any work; what `quantizeBlocks` throws
 */
export async function quantizeModel(model: OpenModel, opts: QuantizeModelOpts): Promise<QuantizeModelReport> {
  const start = Date.now();
  const output = resolve(opts.output);
  const { recipe } = opts;
  if (!model.folder) {
    throw new LmqError('model/unsupported', 'a GGUF file cannot be quantized again', {
      op: 'quantize',
      found: model.name,
      hint: 'Start from the original Hugging Face folder.',
    });
  }
  if (!opts.force && (await exists(output))) {
    throw new LmqError('file/exists', 'the output is already there', {
      op: 'quantize',
      file: opts.output,
      hint: 'Choose another name, or replace it with --force.',
    });
  }
  if ((await exists(output)) && (await stat(output)).isDirectory() !== (recipe.export === 'lmq')) {
    throw new LmqError('file/exists', recipe.export === 'lmq' ? 'a file has this name' : 'a folder has this name', {
      op: 'quantize',
      file: opts.output,
      hint: 'Choose another name.',
    });
  }
  if (!(await exists(dirname(output)))) {
    throw new LmqError('file/missing', 'the folder of the output does not exist', {
      op: 'quantize',
      file: dirname(opts.output),
      hint: 'Create it first.',
    });
  }
  const { checkpoint, architecture } = model;
  const calibration = opts.calibration ?? [];
  planSites(checkpoint, architecture, recipe); // refuses what cannot be done before anything is written
  const work = await openWorkFolder(output, await fingerprintOf(model, recipe, opts.backend.variant, calibration), opts.restart ?? false);
  const resumedBlocks = work.finished.length;
  try {
    const resume = await resumePoint(
      work,
      calibration.map((w) => w.length * architecture.hidden),
    );
    for await (const block of quantizeBlocks({ ...opts, checkpoint, architecture, store: fileStores(work.path), resume }))
      await work.commit(block);

    const layers = work.finished.flatMap((b) => b.layers);
    const result = stack(
      checkpoint,
      work.finished.map((b) => b.weights),
    );
    const shared = { ...opts, folder: model.folder, output };
    const { bytes, notes } =
      recipe.export === 'lmq'
        ? await exportLmq(result, { ...shared, layers })
        : await exportGguf(result, { ...shared, target: recipe.export, name: basename(resolve(model.folder)) });
    await work.remove();
    const weights = layers.reduce((sum, l) => sum + l.weights, 0);
    return {
      output: opts.output,
      method: recipe.stages[0]?.method ?? 'none',
      variant: opts.backend.variant,
      bitsPerWeight: weights ? layers.reduce((sum, l) => sum + l.bitsPerWeight * l.weights, 0) / weights : 0,
      bytes,
      seconds: (Date.now() - start) / 1000,
      resumedBlocks,
      layers,
      notes,
    };
  } catch (e) {
    // Kept after an interruption or trouble with files; a model that cannot be quantized will not become better by trying again.
    const hopeless = isLmqError(e) && !/^(file|backend)\//.test(e.code);
    if (work.finished.length && !hopeless) await work.close();
    else await work.remove();
    throw e;
  }
}

/** The block to go on at: the first that is not finished and whose inputs are there, if its method needs them. */
async function resumePoint(work: WorkFolder, sizes: readonly number[]) {
  const last = work.finished.at(-1);
  if (!last) return undefined;
  const layer = last.layer + 1;
  const inputs = await openActivations(work.path, layer, sizes);
  return { layer, ...(inputs && { inputs }) };
}
