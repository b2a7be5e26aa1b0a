/**
 * Export to an lmq folder: safetensors with one tensor per layout field, `lmq.json`, and the source's configuration, tokenizer and
 * licence files. The folder loads wherever a model is expected.
 * @module
 */
import { copyFile, readdir, realpath, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Checkpoint, LMQ_MANIFEST, type LmqEntry, lmqManifest, type TensorToWrite, toLmqTensors } from '@lmq/checkpoints';
import { createFolder, writeShards } from '@lmq/checkpoints/node';
import { type LongCallOpts, printable } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';

export interface ExportLmqOpts extends LongCallOpts {
  /** Source folder, for the files that travel along. */
  folder: string;
  output: string;
  force?: boolean;
  recipe: Recipe;
  layers: LayerReport[];
}

/** Files of a model folder that are not weights and mean the same for the quantized model. */
const TRAVELS =
  /^(config\.json|generation_config\.json|tokenizer.*|special_tokens_map\.json|vocab\..*|merges\.txt|chat_template\..*|(LICEN[CS]E|NOTICE|USE_POLICY)(\..*)?)$/i;

/** Writes the folder; it appears under its name only when it is whole. */
export async function exportLmq(checkpoint: Checkpoint, opts: ExportLmqOpts): Promise<{ bytes: number; notes: string[] }> {
  const folder = await createFolder(opts.output, { force: opts.force });
  try {
    const tensors: TensorToWrite[] = [];
    const entries: [string, LmqEntry][] = [];
    let bytes = 0;
    for (const [name, info] of checkpoint.tensors) {
      // Read once for the description; the data is read again when its turn to be written comes, so that memory holds one tensor.
      const described = toLmqTensors(name, await checkpoint.read(name), info.shape);
      entries.push([name, described.entry]);
      bytes += info.bytes;
      for (const [i, t] of described.tensors.entries()) {
        tensors.push({ ...t, bytes: async () => toLmqTensors(name, await checkpoint.read(name), info.shape).tensors[i]!.bytes() });
      }
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
 * what the user would not publish; but snapshots in the cache of Hugging Face are links to the blobs beside them.
 */
export async function copyAlong(from: string, to: string): Promise<string[]> {
  const home = await realpath(from);
  const homes = [home];
  if (basename(dirname(home)) === 'snapshots') homes.push(join(home, '..', '..', 'blobs'));
  const notes: string[] = [];
  for (const name of await readdir(from)) {
    if (!TRAVELS.test(name)) continue;
    const file = await realpath(join(from, name)).catch(() => undefined); // a link to nothing
    if (file && homes.includes(dirname(file)) && (await stat(file)).isFile()) await copyFile(file, join(to, name));
    else notes.push(`${printable(name)} is not copied along: it is not a regular file of the model folder`);
  }
  return notes;
}
