/**
 * Reading a model that is split over several safetensors files, through its `model.safetensors.index.json`. The index is an attacker's
 * file like any other: a shard's name may only be a plain file name, and index and shards must agree tensor by tensor.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { fail, missingTensor } from './_checks.js';
import { createJsonReader } from './_json.js';
import type { ByteSource, SafetensorsFile, TensorInfo } from './api.js';
import { openSafetensors } from './safetensors.js';

/** Largest index accepted, in characters. A real one reached 60 MB. */
export const MAX_INDEX_CHARACTERS = 100_000_000;
export const MAX_SHARDS = 10_000;

const OP = 'openSharded';

export interface ShardIndex {
  /** Tensor name → file name. */
  weightMap: Map<string, string>;
  /** Distinct file names, in order of first appearance. */
  files: string[];
  /** Sum of all tensors' bytes, where the index says so. */
  totalSize?: number;
}

/** True for a plain file name: letters, digits, `_`, `-`, `.`, not hidden, ending in `.safetensors`. No path, drive, NUL or escape. */
export function isShardName(name: string): boolean {
  return name.length <= 255 && /^\w[\w.-]*\.safetensors$/.test(name) && !name.includes('..');
}

/** Reads an index. @throws LmqError `file/format`, `file/limit` */
export function parseShardIndex(text: string, file: string): ShardIndex {
  if (text.length > MAX_INDEX_CHARACTERS)
    fail('file/limit', 'the index is too long', {
      op: OP,
      file,
      expected: `at most ${MAX_INDEX_CHARACTERS} characters`,
      found: text.length,
    });
  const reader = createJsonReader(new TextEncoder().encode(text), { op: OP, file });
  const weightMap = new Map<string, string>();
  const files = new Set<string>();
  let seen = false;
  let totalSize: number | undefined;
  reader.object((key) => {
    if (key === 'weight_map') {
      seen = true;
      reader.object((tensor) => {
        const offset = reader.position();
        const shard = reader.string();
        if (!isShardName(shard))
          fail('file/format', 'a shard has a name that is not a plain file name', {
            op: OP,
            file,
            tensor,
            offset,
            expected: 'a name such as model-00001-of-00002.safetensors',
            found: shard,
          });
        weightMap.set(tensor, shard);
        files.add(shard);
        if (files.size > MAX_SHARDS)
          fail('file/limit', 'there are too many shards', { op: OP, file, offset, expected: `at most ${MAX_SHARDS}` });
      });
    } else if (key === 'metadata') {
      const offset = reader.position();
      const value = reader.value();
      const total = typeof value === 'object' && value !== null ? (value as Record<string, unknown>).total_size : undefined;
      if (total === undefined) return;
      if (typeof total !== 'number' || !Number.isSafeInteger(total) || total < 0)
        fail('file/format', 'total_size is not a number of bytes', { op: OP, file, offset, found: total });
      totalSize = total as number;
    } else reader.value();
  });
  reader.end();
  if (!seen)
    fail('file/format', 'the index has no weight_map', { op: OP, file, offset: 0, hint: 'This is not an index of safetensors shards.' });
  return totalSize === undefined ? { weightMap, files: [...files] } : { weightMap, files: [...files], totalSize };
}

/**
 * Opens all shards of an index as one checkpoint and checks that every tensor is where the index says, and nowhere else.
 * @param openShard gives the bytes of a shard by its plain file name; throw `file/missing` for one that is not there
 * @throws LmqError `file/missing` naming the shard, `file/*` for damage. What was opened is closed again.
 */
export async function openSharded(
  indexText: string,
  indexName: string,
  openShard: (file: string) => Promise<ByteSource>,
): Promise<SafetensorsFile> {
  const index = parseShardIndex(indexText, indexName);
  const shards = new Map<string, SafetensorsFile>();
  const close = async () => {
    const ends = await Promise.allSettled([...shards.values()].map((shard) => shard.close())); // all of them, also when one fails
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  };
  try {
    for (const file of index.files) {
      const source = await openShard(file).catch((cause: unknown) => {
        if (cause instanceof LmqError && cause.code !== 'file/missing') throw cause;
        const hint = 'Download this shard into the folder of the index; every shard is needed.';
        throw new LmqError('file/missing', 'a shard is missing', { op: OP, file, hint, cause });
      });
      try {
        shards.set(file, await openSafetensors(source));
      } catch (e) {
        await source.close().catch(() => {});
        throw e;
      }
    }
    return join(index, indexName, shards, close);
  } catch (e) {
    await close().catch(() => {});
    throw e;
  }
}

function join(index: ShardIndex, indexName: string, shards: Map<string, SafetensorsFile>, close: () => Promise<void>): SafetensorsFile {
  const tensors = new Map<string, TensorInfo>();
  const metadata = new Map<string, unknown>();
  let total = 0;
  for (const [file, shard] of shards) {
    for (const [name, info] of shard.tensors) {
      if (index.weightMap.get(name) !== file) {
        const what = index.weightMap.has(name)
          ? 'a shard holds a tensor that the index places elsewhere'
          : 'a shard holds a tensor that the index lacks';
        fail('file/format', what, {
          op: OP,
          file: info.file,
          tensor: name,
          expected: index.weightMap.get(name) ?? `an entry in ${indexName}`,
          found: file,
        });
      }
      tensors.set(name, info);
      total += info.bytes;
    }
    for (const [key, value] of shard.metadata) metadata.set(key, value);
  }
  for (const [name, file] of index.weightMap) {
    if (!tensors.has(name)) {
      const hint = 'Index and shards come from different downloads; get them all again.';
      fail('file/format', 'a tensor of the index is not in its shard', {
        op: OP,
        file,
        tensor: name,
        expected: `an entry in ${file}`,
        found: 'none',
        hint,
      });
    }
  }
  if (index.totalSize !== undefined && index.totalSize !== total) {
    const hint = 'Index and shards come from different downloads; get them all again.';
    fail('file/format', 'the shards do not have the size that the index says', {
      op: OP,
      file: indexName,
      expected: index.totalSize,
      found: total,
      hint,
    });
  }
  const holder = (name: string, op: string): SafetensorsFile => {
    const file = index.weightMap.get(name);
    return file === undefined ? missingTensor(name, indexName, op) : shards.get(file)!;
  };
  return {
    format: 'safetensors',
    tensors,
    metadata,
    dtype: (name) => holder(name, 'dtype').dtype(name),
    readBytes: async (name, from, to) => holder(name, 'readBytes').readBytes(name, from, to),
    read: async (name) => holder(name, 'read').read(name),
    close,
  };
}
