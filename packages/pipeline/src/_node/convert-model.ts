/**
 * Stores a model in another format. What becomes of every tensor is found out before anything is written; what is quantized is stored with
 * the values that it has, or decoded where the target is one of floats, or the conversion is refused.
 * @module
 */
import { basename, resolve } from 'node:path';
import { type Checkpoint, isBlockFileType } from '@lmq/checkpoints';
import { isBlockType } from '@lmq/formats';
import { LmqError, type LongCallOpts } from '@lmq/tensor';
import { isFolderName } from '../_folders/table.js';
import type { ExportName, Recipe } from '../api.js';
import { outputKind, saysInput } from '../export-rules.js';
import { parseRecipe } from '../recipe.js';
import { asHfModel, type HfModel } from './as-hf-model.js';
import type { Change } from './changes.js';
import { checkOutput } from './check-output.js';
import { requantized } from './companions.js';
import { planFolder, writeFolder } from './export-folder.js';
import { exportGguf } from './export-gguf.js';
import { exportLmq } from './export-lmq.js';
import { exportOnnx } from './export-onnx.js';
import type { OpenModel } from './open-model.js';
import { fileTypeOf } from './plan-gguf.js';
import { planGgufChanges } from './plan-gguf-changes.js';
import { planOnnxChanges } from './plan-onnx-changes.js';

export interface ConvertModelOpts extends LongCallOpts {
  export: ExportName;
  /** File (GGUF) or folder (all else) to write. */
  output: string;
  /** Folder of the Hugging Face model that a GGUF file was made of, for its configuration and tokenizer. */
  original?: string;
  /** Replace an existing output. Default false. */
  force?: boolean;
  /** Find out what would become of each tensor, and write nothing. Default false. */
  dryRun?: boolean;
}

export interface ConvertModelReport {
  output: string;
  from: string;
  to: ExportName;
  /** Size of the written tensors; 0 for a dry run. */
  bytes: number;
  seconds: number;
  changes: Change[];
  /** What the target cannot hold, as errors; empty unless this was a dry run. */
  refused: LmqError[];
  notes: string[];
}

/** What a conversion will do, and the rest of it. */
interface Plan {
  changes: Change[];
  refused: LmqError[];
  notes: string[];
  write(output: string): Promise<{ bytes: number; notes: string[] }>;
}

/**
 * Converts a model. Weights are read one at a time.
 * @throws LmqError before anything is written: `file/exists` when the output is there and `force` is not set; `export/unsupported` when the
 * target cannot hold a weight without changing it and is not one of floats; what `asHfModel` throws
 */
export async function convertModel(model: OpenModel, opts: ConvertModelOpts): Promise<ConvertModelReport> {
  const start = Date.now();
  const { dryRun = false, export: target } = opts;
  const output = dryRun ? opts.output : await checkOutput(opts.output, outputKind(target), opts.force ?? false, 'convert');
  const hf = await asHfModel(model, opts.original);
  const { changes, refused, notes, write } = await plan(hf, { ...opts, name: basename(resolve(model.name)) });
  const [first] = refused;
  if (first && !dryRun) {
    if (refused.length === 1) throw first;
    throw new LmqError(first.code, `${refused.length} weights cannot be stored; the first: ${first.message}`, { op: 'convert' });
  }
  const written = dryRun ? { bytes: 0, notes } : await write(output);
  return {
    output: opts.output,
    from: model.checkpoint.format,
    to: target,
    bytes: written.bytes,
    seconds: (Date.now() - start) / 1000,
    changes,
    refused,
    notes: [...hf.notes, ...(await inputNotes(hf.checkpoint, target)), ...written.notes],
  };
}

/** What is lost of how inputs are quantized. */
async function inputNotes({ inputs = new Map() }: Checkpoint, target: ExportName): Promise<string[]> {
  let lost = 0;
  for (const input of inputs.values()) if (!(await saysInput(target, input))) lost++;
  return lost ? [`the inputs of ${lost} linears are quantized at run time, which ${target} does not say: there they will not be`] : [];
}

async function plan({ checkpoint, architecture, companions, linears }: HfModel, opts: ConvertModelOpts & { name: string }): Promise<Plan> {
  const { export: target, force, signal, onProgress, name } = opts;
  const writing = { force, signal, onProgress };
  if (isFolderName(target)) {
    const folder = await planFolder(checkpoint, {
      target,
      companions,
      linears,
      castDense: checkpoint.format === 'gguf',
      signal,
      onProgress,
    });
    return { ...folder, write: (output) => writeFolder(folder, { ...writing, output }) };
  }
  if (target === 'lmq') {
    const changes = [...checkpoint.tensors.values()].map((t): Change => ({ tensor: t.name, from: t.format, to: t.format, effect: 'same' }));
    const files = await requantized(companions, undefined);
    const info = { source: checkpoint.format };
    return { changes, refused: [], notes: [], write: (output) => exportLmq(checkpoint, { ...writing, output, companions: files, info }) };
  }
  if (target === 'onnx') {
    const planned = await planOnnxChanges(checkpoint, architecture, { signal, onProgress });
    return { ...planned, notes: [], write: (output) => exportOnnx(checkpoint, { ...writing, output, companions, architecture }) };
  }
  const { folder } = companions;
  if (folder === undefined)
    throw new LmqError('export/unsupported', 'a GGUF file is made from the configuration and tokenizer of a Hugging Face model', {
      op: 'convert',
      found: 'a GGUF file',
      hint: 'Name the folder of the original model with --original.',
    });
  const recipe: Recipe = { ...parseRecipe({ stages: [] }), export: target };
  const fileType = fileTypeOf(recipe);
  if (isBlockFileType(fileType) && !isBlockType(fileType.toUpperCase()))
    throw new LmqError('export/unsupported', `${fileType} is a mixture of types, which quantizing makes`, {
      op: 'convert',
      found: target,
      hint: `Quantize the original: lmq quantize <model> -o <out> --export ${target}.`,
    });
  const gguf = { folder, architecture, recipe, name };
  const planned = await planGgufChanges(checkpoint, { ...gguf, signal, onProgress });
  return { ...planned, notes: [], write: (output) => exportGguf(checkpoint, { ...gguf, ...writing, output }) };
}
