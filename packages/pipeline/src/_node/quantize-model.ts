/**
 * Quantizes a model into a file or folder. Each finished block goes to a working folder beside the output, so that memory holds one
 * block; the output is then assembled from those parts and the untouched tensors of the source, and appears under its name only whole.
 * @module
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Checkpoint, lmqManifest, openLmq, openSafetensors, toLmqTensors, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { bitsPerWeight } from '@lmq/formats';
import { type Backend, type CompressedTensor, LmqError, type LongCallOpts } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';
import { stack } from '../overlay.js';
import { type BlockResult, quantizeBlocks } from '../quantize-blocks.js';
import { exportGguf } from './export-gguf.js';
import { exportLmq } from './export-lmq.js';
import { exists, type OpenModel } from './open-model.js';

export interface QuantizeModelOpts extends LongCallOpts {
  backend: Backend;
  recipe: Recipe;
  /** File (GGUF) or folder (lmq) to write. */
  output: string;
  /** Token windows to calibrate on. */
  calibration?: ArrayLike<number>[];
  /** Replace an existing output. Default false. */
  force?: boolean;
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
  seconds: number;
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
  if (!(await exists(dirname(output)))) {
    throw new LmqError('file/missing', 'the folder of the output does not exist', {
      op: 'quantize',
      file: dirname(opts.output),
      hint: 'Create it first.',
    });
  }
  const work = await mkdtemp(join(dirname(output), `.${basename(output)}.work-`));
  const parts: Checkpoint[] = [];
  const layers: LayerReport[] = [];
  let codeBits = 0;
  let weights = 0;
  try {
    for await (const block of quantizeBlocks({ ...opts, checkpoint: model.checkpoint, architecture: model.architecture })) {
      parts.push(await writePart(join(work, `block-${block.layer}.safetensors`), block));
      layers.push(...block.layers);
      for (const t of block.weights.values()) {
        const n = t.shape[0] * t.shape[1];
        codeBits += bitsPerWeight(t) * n;
        weights += n;
      }
    }
    const result = stack(model.checkpoint, parts);
    const { bytes, notes } =
      recipe.export === 'lmq'
        ? await exportLmq(result, { ...opts, folder: model.folder, output, recipe, layers })
        : await exportGguf(result, { ...opts, folder: model.folder, output, target: recipe.export, name: basename(resolve(model.folder)) });
    return {
      output: opts.output,
      method: recipe.stages[0]?.method ?? 'none',
      variant: opts.backend.variant,
      bitsPerWeight: weights ? codeBits / weights : 0,
      bytes,
      seconds: (Date.now() - start) / 1000,
      layers,
      notes,
    };
  } finally {
    for (const p of parts) await p.close();
    await rm(work, { recursive: true, force: true });
  }
}

/** Writes a block's weights as a small lmq checkpoint and opens it. */
async function writePart(path: string, block: BlockResult): Promise<Checkpoint> {
  const packed = [...block.weights].map(([name, t]: [string, CompressedTensor]) => [name, toLmqTensors(name, t)] as const);
  await writeFileAtomic(path, (sink) =>
    writeSafetensors(
      sink,
      packed.flatMap(([, p]) => p.tensors),
    ),
  );
  return openLmq(lmqManifest(packed.map(([name, p]) => [name, p.entry])), await openSafetensors(await fileSource(path)));
}
