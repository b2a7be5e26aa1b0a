/**
 * Opening whatever a path names: a safetensors or GGUF file, an index of shards, a Hugging Face folder, a folder of our own.
 * @module
 */
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { LmqError } from '@lmq/tensor';
import type { ByteSource, Checkpoint, SafetensorsFile } from '../api.js';
import { openSplitGguf } from '../gguf-split.js';
import { openLmq } from '../lmq.js';
import { LMQ_MANIFEST } from '../lmq-write.js';
import { openSafetensors } from '../safetensors.js';
import { openSharded } from '../sharded.js';
import { io, systemCode } from './errors.js';
import { fileSource } from './source.js';

const OP = 'openCheckpoint';
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** Longest index or manifest read. */
const MAX_TEXT_BYTES = 100_000_000;

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (e) {
    if (systemCode(e) === 'ENOENT') return false;
    return io(OP, path, () => Promise.reject(e));
  }
}

/** Reads through a source: it takes regular files only, so that a link to a device does not read for ever, and no more than it measured. */
async function readText(path: string, op: string, maxBytes = MAX_TEXT_BYTES): Promise<string> {
  const bytes = await guarded(await fileSource(path), async (source) => {
    if (source.size > maxBytes)
      throw new LmqError('file/limit', 'the file is too long', {
        op,
        file: path,
        expected: `at most ${maxBytes} bytes`,
        found: source.size,
      });
    const all = await source.read(0, source.size);
    await source.close();
    return all;
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new LmqError('file/format', 'the file is not valid UTF-8', { op, file: path, cause });
  }
}

/**
 * Text of a small file in a model folder, such as config.json (10 MB are plenty): a regular file, of valid UTF-8, and no link that leads out of
 * the folder (but into the Hugging Face cache that it belongs to). For JSON see `parseJson`.
 * @throws LmqError `file/missing`, `file/limit`, `file/format`, `file/io`
 */
export async function readFolderText(dir: string, name: string, maxBytes: number): Promise<string> {
  const op = 'readFolderText';
  const path = join(dir, name);
  await checkInside(dir, path, op);
  return readText(path, op, maxBytes);
}

async function guarded<T>(source: ByteSource, open: (source: ByteSource) => Promise<T>): Promise<T> {
  try {
    return await open(source);
  } catch (e) {
    await source.close().catch(() => {}); // the first error is the one to tell
    throw e;
  }
}

/** Where a link may lead: into the folder itself, or into the blobs of the Hugging Face cache that the folder is a snapshot of. */
async function checkInside(dir: string, file: string, op = OP): Promise<void> {
  const home = await io(op, dir, () => realpath(dir));
  const real = await io(op, file, () => realpath(file));
  const inside = (folder: string) => {
    const way = relative(folder, real);
    return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && join(folder, way) === real;
  };
  const cache = basename(dirname(home)) === 'snapshots' ? join(home, '..', '..', 'blobs') : undefined;
  if (inside(home) || (cache && inside(cache))) return;
  throw new LmqError('file/format', 'a link leads out of the model folder', { op, file, hint: 'Copy the file into the folder.' });
}

async function openIndex(path: string): Promise<SafetensorsFile> {
  const dir = dirname(path);
  return openSharded(await readText(path, OP), path, async (file) => {
    const shard = join(dir, file);
    await checkInside(dir, shard);
    return fileSource(shard);
  });
}

async function openSingle(dir: string): Promise<SafetensorsFile> {
  const path = join(dir, SINGLE);
  await checkInside(dir, path);
  return guarded(await fileSource(path), (s) => openSafetensors(s));
}

async function openFolder(dir: string): Promise<Checkpoint> {
  const tensors = async (): Promise<SafetensorsFile | undefined> => {
    if (await exists(join(dir, SINGLE))) return openSingle(dir);
    if (await exists(join(dir, INDEX))) {
      await checkInside(dir, join(dir, INDEX));
      return openIndex(join(dir, INDEX));
    }
    return undefined;
  };
  const manifest = join(dir, LMQ_MANIFEST);
  const ours = await exists(manifest);
  const physical = await tensors();
  if (!physical) {
    const hint = 'Give a folder with model.safetensors, or with an index and its shards; or name a .gguf or .safetensors file.';
    throw new LmqError('file/missing', 'the folder holds no model', { op: OP, file: dir, expected: `${SINGLE} or ${INDEX}`, hint });
  }
  if (!ours) return physical;
  try {
    await checkInside(dir, manifest);
    return openLmq(await readText(manifest, OP), physical, manifest);
  } catch (e) {
    await physical.close().catch(() => {});
    throw e;
  }
}

/**
 * Opens a model: a folder in Hugging Face's or our own format, a `.safetensors` file, a `.safetensors.index.json`, a GGUF file (told by its
 * first bytes) or any part of one. Headers are read and checked; data is read later, tensor by tensor. Close it when done.
 * @throws LmqError `file/missing`, `file/io`, or `file/truncated`, `file/format`, `file/limit` for a damaged file
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const info = await io(OP, path, () => stat(path));
  if (info.isDirectory()) return openFolder(path);
  if (path.endsWith('.index.json')) return openIndex(path);
  return guarded(await fileSource(path), async (source): Promise<Checkpoint> => {
    const magic = source.size >= 4 ? await source.read(0, 4) : new Uint8Array(4);
    if (String.fromCharCode(...magic) !== 'GGUF' && !path.endsWith('.gguf')) return openSafetensors(source);
    return openSplitGguf(source, (file) => fileSource(join(dirname(path), file)));
  });
}
