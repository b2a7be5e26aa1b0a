/**
 * Writing a GGUF file, or its parts. The first part, by which the model is opened, is written last: it says that all are there.
 * @module
 */
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LmqError } from '@lmq/tensor';
import { ggufPartName, splitGguf } from '../gguf-split.js';
import { type GgufContents, writeGguf } from '../gguf-write.js';
import { type WriteFileOpts, writeFileAtomic } from './atomic.js';

export interface WriteGgufFileOpts extends WriteFileOpts {
  /** Tensor bytes in one file. Default: everything in one. */
  maxShardBytes?: number;
}

/**
 * Writes `path`, or where the tensors are larger than `maxShardBytes`, for `model.gguf`: `model-00001-of-0000n.gguf` … Each file appears
 * when it is complete. On failure or abort the parts written so far are removed.
 * @returns paths of the files, in order
 * @throws LmqError `file/exists` before anything is written, `file/*`, `argument/*` as `writeGguf`
 */
export async function writeGgufFile(path: string, contents: GgufContents, opts: WriteGgufFileOpts = {}): Promise<string[]> {
  const { maxShardBytes, beforeRename, ...file } = opts;
  const parts = maxShardBytes === undefined ? [contents] : splitGguf(contents, maxShardBytes);
  const stem = basename(path).replace(/\.gguf$/i, '');
  const paths = parts.map((_, i) => (parts.length === 1 ? path : join(dirname(path), ggufPartName(stem, i, parts.length))));
  if (!file.force) for (const p of paths) await refuse(p);
  const written: string[] = [];
  try {
    for (const i of [...paths.keys()].slice(1).concat(0)) {
      await writeFileAtomic(paths[i]!, (sink) => writeGguf(sink, parts[i]!), { ...file, ...(i === 0 && { beforeRename }) });
      written.push(paths[i]!);
    }
  } catch (e) {
    for (const p of written) await fs.rm(p, { force: true }).catch(() => {});
    throw e;
  }
  return paths;
}

async function refuse(path: string): Promise<void> {
  const there = await fs.lstat(path).then(
    () => true,
    () => false,
  );
  if (there)
    throw new LmqError('file/exists', 'the output is already there', {
      op: 'writeGgufFile',
      file: path,
      hint: 'Choose another name, or force.',
    });
}
