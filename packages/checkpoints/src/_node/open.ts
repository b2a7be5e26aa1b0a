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
import { openOnnx } from '../onnx.js';
import { openSafetensors } from '../safetensors.js';
import { openSharded } from '../sharded.js';
import { io, systemCode } from './errors.js';
import { fileSource } from './source.js';

const OP = 'openCheckpoint';
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** Where transformers.js looks for a decoder, from the widest weights to the narrowest. */
const ONNX = ['model', 'model_quantized', 'model_q4'].map((name) => join('onnx', `${name}.onnx`));
/** Where PyTorch's serializer, and HQQ's, put a model. */
const PICKLES = ['qmodel.pt', 'pytorch_model.bin', 'pytorch_model.bin.index.json'];
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

/** Reads all of a source and closes it. A file on disk is a regular one then, so that a link to a device does not read for ever. */
async function readText(from: ByteSource, op: string, maxBytes = MAX_TEXT_BYTES): Promise<string> {
  const bytes = await guarded(from, async (source) => {
    if (source.size > maxBytes)
      throw new LmqError('file/limit', 'the file is too long', {
        op,
        file: source.name,
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
    throw new LmqError('file/format', 'the file is not valid UTF-8', { op, file: from.name, cause });
  }
}

/**
 * Text of a small file in a model folder, such as config.json (10 MB are plenty): a regular file, of valid UTF-8, and no link that leads out of
 * the folder (but into the Hugging Face cache that it belongs to). For JSON see `parseJson`.
 * @throws LmqError `file/missing`, `file/limit`, `file/format`, `file/io`
 */
export async function readFolderText(dir: string, name: string, maxBytes: number): Promise<string> {
  const op = 'readFolderText';
  return readText(await folderSource(dir, name, op), op, maxBytes);
}

/**
 * Text of a file that the user names: a regular file, of valid UTF-8.
 * @throws LmqError `file/missing`, `file/limit`, `file/format`, `file/io`
 */
export async function readFileText(path: string, maxBytes: number): Promise<string> {
  return readText(await fileSource(path), 'readFileText', maxBytes);
}

async function guarded<T>(source: ByteSource, open: (source: ByteSource) => Promise<T>): Promise<T> {
  try {
    return await open(source);
  } catch (e) {
    await source.close().catch(() => {}); // the first error is the one to tell
    throw e;
  }
}

/**
 * Opens a file of a model folder: a regular one, and no link that leads out of the folder, but into the blobs of the Hugging Face cache that
 * the folder is a snapshot of. Close it when done.
 * @throws LmqError `file/missing`, also for a link to nothing; `file/format` for what is not a regular file, or a link that leads out; `file/io`
 */
export async function folderSource(dir: string, name: string, op = 'folderSource'): Promise<ByteSource> {
  const file = join(dir, name);
  const home = await io(op, dir, () => realpath(dir));
  const real = await io(op, file, () => realpath(file));
  const inside = (folder: string) => {
    const way = relative(folder, real);
    return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && join(folder, way) === real;
  };
  const cache = basename(dirname(home)) === 'snapshots' ? join(home, '..', '..', 'blobs') : undefined;
  if (inside(home) || (cache && inside(cache))) return fileSource(file);
  throw new LmqError('file/format', 'a link leads out of the model folder', { op, file, hint: 'Copy the file into the folder.' });
}

async function openIndex(index: ByteSource): Promise<SafetensorsFile> {
  return openSharded(await readText(index, OP), index.name, (shard) => folderSource(dirname(index.name), shard, OP));
}

async function openOnnxFile(path: string): Promise<Checkpoint> {
  const openData = (location: string) => folderSource(dirname(path), location, OP);
  return guarded(await fileSource(path), (source) => openOnnx(source, { openData }));
}

async function openFolder(dir: string): Promise<Checkpoint> {
  const tensors = async (): Promise<SafetensorsFile | undefined> => {
    if (await exists(join(dir, SINGLE))) return guarded(await folderSource(dir, SINGLE, OP), (s) => openSafetensors(s));
    if (await exists(join(dir, INDEX))) return openIndex(await folderSource(dir, INDEX, OP));
    return undefined;
  };
  const manifest = join(dir, LMQ_MANIFEST);
  const ours = await exists(manifest);
  const physical = await tensors();
  if (!physical) {
    for (const name of ONNX) if (await exists(join(dir, name))) return openOnnxFile(join(dir, name));
    for (const name of PICKLES) if (await exists(join(dir, name))) return refusePickle(join(dir, name));
    const hint = 'Give a folder with model.safetensors, or with an index and its shards; or name a .gguf or .safetensors file.';
    throw new LmqError('file/missing', 'the folder holds no model', { op: OP, file: dir, expected: `${SINGLE} or ${INDEX}`, hint });
  }
  if (!ours) return physical;
  try {
    return openLmq(await readText(await folderSource(dir, LMQ_MANIFEST, OP), OP), physical, manifest);
  } catch (e) {
    await physical.close().catch(() => {});
    throw e;
  }
}

/** Throws: PyTorch's own files are programs that build objects. */
function refusePickle(file: string): never {
  throw new LmqError('model/unsupported', 'a file of PyTorch, which lmq does not read', {
    op: OP,
    file,
    expected: 'safetensors or GGUF',
    hint: 'Load the model in Python and save it with save_pretrained (HQQ: save_to_safetensors).',
  });
}

/**
 * Opens a model: a folder in Hugging Face's, transformers.js's or our own format, a `.safetensors` file, a `.safetensors.index.json`, an `.onnx` file with its
 * data beside it, a GGUF file (told by its first bytes) or any part of one. Headers are read and checked; data is read later, tensor by
 * tensor. Close it when done.
 * @throws LmqError `file/missing`, `file/io`, or `file/truncated`, `file/format`, `file/limit` for a damaged file, `model/unsupported` for
 * PyTorch's own (`.pt`, `.bin`)
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const info = await io(OP, path, () => stat(path));
  if (info.isDirectory()) return openFolder(path);
  if (path.endsWith('.index.json')) return openIndex(await fileSource(path));
  if (path.endsWith('.onnx')) return openOnnxFile(path);
  return guarded(await fileSource(path), async (source): Promise<Checkpoint> => {
    const magic = String.fromCharCode(...(source.size >= 4 ? await source.read(0, 4) : []));
    if (magic === 'PK\x03\x04') return refusePickle(path); // a zip archive
    if (magic !== 'GGUF' && !path.endsWith('.gguf')) return openSafetensors(source);
    return openSplitGguf(source, (file) => fileSource(join(dirname(path), file)));
  });
}
