/**
 * Looks at where an output shall go, before any work, and clears away what a run has left there that was killed at its very end.
 * @module
 */
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { LmqError } from '@lmq/tensor';
import { exists } from './text-files.js';
import { removeFinishedWork } from './work-folder.js';

/**
 * @param kind what will be written
 * @returns the absolute path
 * @throws LmqError `file/exists`, unless `force` and of the same kind; `file/missing` when its folder does not exist
 */
export async function checkOutput(name: string, kind: 'file' | 'folder', force: boolean, op: string): Promise<string> {
  const output = resolve(name);
  const finished = await removeFinishedWork(output);
  if (await exists(output)) {
    if (!force) {
      throw new LmqError('file/exists', 'the output is already there', {
        op,
        file: name,
        ...(finished && { found: 'all of it, by a run that was killed when it was done' }),
        hint: 'Choose another name, or replace it with --force.',
      });
    }
    const there = (await stat(output)).isDirectory() ? 'folder' : 'file';
    if (there !== kind) throw new LmqError('file/exists', `a ${there} has this name`, { op, file: name, hint: 'Choose another name.' });
  }
  if (!(await exists(dirname(output)))) {
    throw new LmqError('file/missing', 'the folder of the output does not exist', { op, file: dirname(name), hint: 'Create it first.' });
  }
  return output;
}
