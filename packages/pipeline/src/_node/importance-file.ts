/**
 * Files of importances: what llama-imatrix writes, or lmq calibrate.
 * @module
 */
import { readImatrix, writeImatrix, writeLegacyImatrix } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import type { LongCallOpts } from '@lmq/tensor';
import { type Importance, importanceOf, statisticsImatrix } from '../importance.js';
import type { Statistics } from '../statistics.js';
import { openStatisticsFile } from './calibrate-model.js';
import type { OpenModel } from './open-model.js';

/**
 * Reads importances of `model`: an importance matrix of llama.cpp (GGUF or .dat), or statistics of lmq calibrate.
 * @throws LmqError what `readImatrix` and `openStatisticsFile` throw
 */
export async function openImportanceFile(path: string, model: OpenModel, opts: LongCallOpts = {}): Promise<Importance> {
  const source = await fileSource(path);
  try {
    if (!(await isSafetensors(source))) return importanceOf(await readImatrix(source));
  } finally {
    await source.close();
  }
  const statistics = await openStatisticsFile(path, model);
  try {
    return importanceOf(await statisticsImatrix(statistics, model.architecture, '', opts));
  } finally {
    await statistics.close();
  }
}

/** A safetensors file begins with the length of its header, 8 bytes of which the upper ones are 0; a .dat with two counts above 0. */
async function isSafetensors(source: { size: number; read(offset: number, length: number): Promise<Uint8Array> }): Promise<boolean> {
  if (source.size < 9) return false;
  const bytes = await source.read(0, 9);
  return bytes.subarray(4, 8).every((b) => b === 0) && bytes[8] === 0x7b;
}

export interface WriteImatrixOpts extends LongCallOpts {
  /** `dat` for llama.cpp before 2025-07. */
  format: 'gguf' | 'dat';
  force?: boolean;
  /** Name of the text, for people. */
  dataset: string;
}

/** Writes the importance matrix of `statistics`. @returns size and number of matrices */
export async function writeImatrixFile(
  output: string,
  statistics: Statistics,
  { architecture }: Pick<OpenModel, 'architecture'>,
  { format, force, dataset, ...opts }: WriteImatrixOpts,
): Promise<{ bytes: number; entries: number }> {
  const imatrix = await statisticsImatrix(statistics, architecture, dataset, opts);
  const write = format === 'dat' ? writeLegacyImatrix : writeImatrix;
  let bytes = 0;
  await writeFileAtomic(output, async (sink) => (bytes = await write(sink, imatrix)), { force, signal: opts.signal });
  return { bytes, entries: imatrix.entries.size };
}
