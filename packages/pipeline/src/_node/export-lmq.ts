/**
 * Export to an lmq folder: safetensors with one tensor per layout field, `lmq.json`, and the source's configuration, tokenizer and
 * licence files. The folder loads wherever a model is expected.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, LMQ_MANIFEST, type LmqEntry, lmqManifest, type TensorToWrite, toLmqTensors } from '@lmq/checkpoints';
import { createFolder, type PlaceOpts, writeShards } from '@lmq/checkpoints/node';
import { createPhase, type LongCallOpts } from '@lmq/tensor';
import type { BudgetReport, LayerReport } from '../api.js';
import { type Companions, writeCompanions } from './companions.js';

export interface ExportLmqOpts extends LongCallOpts, PlaceOpts {
  companions: Companions;
  output: string;
  /** Kept in lmq.json, e.g. the recipe. */
  info: Record<string, unknown>;
  /** Kept in lmq-report.json. */
  layers?: LayerReport[];
  /** Kept there, too. */
  budget?: BudgetReport;
}

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
      const { entry, tensors: fields } = toLmqTensors(name, await checkpoint.read(name), info.shape, checkpoint.inputs?.get(name));
      entries.push([name, entry]);
      bytes += info.bytes;
      for (const [i, t] of fields.entries()) {
        tensors.push({ ...t, bytes: async () => toLmqTensors(name, await checkpoint.read(name), info.shape).tensors[i]!.bytes() });
      }
      described(entries.length, name);
    }
    await writeShards(folder.dir, tensors, { signal: opts.signal, onProgress: opts.onProgress });
    const notes = await writeCompanions(opts.companions, folder.dir);
    const { layers, budget } = opts;
    if (layers) await writeFile(join(folder.dir, 'lmq-report.json'), `${JSON.stringify({ layers, budget }, null, 1)}\n`);
    await writeFile(join(folder.dir, LMQ_MANIFEST), lmqManifest(entries, opts.info));
    await folder.commit();
    return { bytes, notes };
  } catch (e) {
    await folder.abort();
    throw e;
  }
}
