/**
 * Export to an lmq folder: safetensors with one tensor per layout field, `lmq.json`, and the source's configuration, tokenizer and
 * licence files. The folder loads wherever a model is expected.
 * @module
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type ByteSource,
  type Checkpoint,
  LMQ_MANIFEST,
  type LmqEntry,
  lmqManifest,
  type TensorToWrite,
  toLmqTensors,
} from '@lmq/checkpoints';
import { createFolder, folderSource, type PlaceOpts, writeFileAtomic, writeShards } from '@lmq/checkpoints/node';
import { createPhase, isLmqError, type LongCallOpts, printable } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';

export interface ExportLmqOpts extends LongCallOpts, PlaceOpts {
  /** Source folder, for the files that travel along. */
  folder: string;
  output: string;
  recipe: Recipe;
  layers: LayerReport[];
}

/** Files of a model folder that are not weights and mean the same for the quantized model. */
const TRAVELS =
  /^(config\.json|generation_config\.json|tokenizer.*|special_tokens_map\.json|vocab\..*|merges\.txt|chat_template\..*|(LICEN[CS]E|NOTICE|USE_POLICY)(\..*)?)$/i;

/** Bytes copied at a time. */
const CHUNK = 2 ** 24;

/** Writes the folder; it appears under its name only when it is whole. */
export async function exportLmq(checkpoint: Checkpoint, opts: ExportLmqOpts): Promise<{ bytes: number; notes: string[] }> {
  const folder = await createFolder(opts.output, opts);
  try {
    const tensors: TensorToWrite[] = [];
    const entries: [string, LmqEntry][] = [];
    let bytes = 0;
    const described = createPhase('describe', checkpoint.tensors.size, 'tensors', opts);
    for (const [name, info] of checkpoint.tensors) {
      // Read once for the description; the data is read again when its turn to be written comes, so that memory holds one tensor.
      const { entry, tensors: fields } = toLmqTensors(name, await checkpoint.read(name), info.shape);
      entries.push([name, entry]);
      bytes += info.bytes;
      for (const [i, t] of fields.entries()) {
        tensors.push({ ...t, bytes: async () => toLmqTensors(name, await checkpoint.read(name), info.shape).tensors[i]!.bytes() });
      }
      described(entries.length, name);
    }
    await writeShards(folder.dir, tensors, { signal: opts.signal, onProgress: opts.onProgress });
    const notes = await copyAlong(opts.folder, folder.dir);
    await writeFile(join(folder.dir, 'lmq-report.json'), `${JSON.stringify({ layers: opts.layers }, null, 1)}\n`);
    await writeFile(join(folder.dir, LMQ_MANIFEST), lmqManifest(entries, { recipe: opts.recipe }));
    await folder.commit();
    return { bytes, notes };
  } catch (e) {
    await folder.abort();
    throw e;
  }
}

/**
 * Copies the files that travel along; returns what was left behind. A pipe may never end, and a link that leads out of the folder may name
 * what the user would not publish.
 */
export async function copyAlong(from: string, to: string): Promise<string[]> {
  const notes: string[] = [];
  for (const name of await readdir(from)) {
    if (!TRAVELS.test(name)) continue;
    try {
      await copyFile(await folderSource(from, name), join(to, name));
    } catch (e) {
      if (!isLmqError(e) || (e.code !== 'file/format' && e.code !== 'file/missing')) throw e;
      notes.push(`${printable(name)} is not copied along: it is not a regular file of the model folder`);
    }
  }
  return notes;
}

async function copyFile(from: ByteSource, to: string): Promise<void> {
  try {
    await writeFileAtomic(to, async (sink) => {
      for (let at = 0; at < from.size; at += CHUNK) await sink.write(await from.read(at, Math.min(CHUNK, from.size - at)));
    });
  } finally {
    await from.close();
  }
}
