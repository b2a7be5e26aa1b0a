/**
 * Files of importances: what llama-imatrix writes, or lmq calibrate.
 * @module
 */
import { readImatrix } from '@lmq/checkpoints';
import { fileSource } from '@lmq/checkpoints/node';
import type { LongCallOpts } from '@lmq/tensor';
import { type Importance, imatrixOf, importanceOf, squaresOf } from '../importance.js';
import { openStatisticsFile } from './calibrate-model.js';
import type { OpenModel } from './open-model.js';

/**
 * Reads importances of `model`: an importance matrix of llama.cpp (GGUF or .dat), or statistics of lmq calibrate.
 * @throws LmqError what `readImatrix` and `openStatisticsFile` throw
 */
export async function openImportanceFile(path: string, model: OpenModel, opts: LongCallOpts = {}): Promise<Importance> {
  const source = await fileSource(path);
  try {
    if (!(await isSafetensors(source))) return importanceOf(await readImatrix(source), path);
  } finally {
    await source.close();
  }
  const statistics = await openStatisticsFile(path, model);
  try {
    return importanceOf(await imatrixOf(model.architecture, squaresOf(statistics), path, opts), path);
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
