/**
 * Writing a model as one safetensors file, or as shards with an index. The index is written last: it says that all shards are there.
 * @module
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { createPhase, LmqError, type LongCallOpts } from '@lmq/tensor';
import type { ByteSink, TensorToWrite } from '../api.js';
import { safetensorsBytes, writeSafetensors } from '../safetensors-write.js';
import { MAX_SHARDS } from '../sharded.js';
import { type FileSystem, writeFileAtomic } from './atomic.js';

export interface WriteShardsOpts extends LongCallOpts {
  /** Tensor bytes in one file. A larger tensor gets a file of its own. Default 5e9. */
  maxShardBytes?: number;
  /** `__metadata__` of every file. Default `{ format: 'pt' }`, which transformers insists on. */
  metadata?: Record<string, string>;
}

export interface WrittenShards {
  /** Names of the files in `dir`, index included. */
  files: string[];
  /** Bytes of tensor data. */
  bytes: number;
}

/** Splits tensors, in their order, so that each part holds at most `limit` bytes. */
function split(tensors: readonly TensorToWrite[], limit: number): TensorToWrite[][] {
  const parts: TensorToWrite[][] = [[]];
  let size = 0;
  for (const t of tensors) {
    const bytes = safetensorsBytes(t);
    if (size + bytes > limit && parts[parts.length - 1]!.length > 0) {
      parts.push([]);
      size = 0;
    }
    parts[parts.length - 1]!.push(t);
    size += bytes;
  }
  return parts;
}

/**
 * Writes `model.safetensors`, or `model-00001-of-0000n.safetensors` … and `model.safetensors.index.json`, into a folder. Each file appears
 * when it is complete. Tensors are asked for their bytes one at a time. On failure or abort the files written so far are removed; after a
 * crash they may be there, but never the index without all of them.
 * @throws LmqError `file/exists` when one of the files is there, `file/io`, `argument/*` for tensors that cannot be stored
 */
export async function writeShards(
  dir: string,
  tensors: readonly TensorToWrite[],
  opts: WriteShardsOpts = {},
  files: FileSystem = fs,
): Promise<WrittenShards> {
  const { maxShardBytes = 5e9, metadata = { format: 'pt' }, signal } = opts;
  const op = 'writeShards';
  if (!(maxShardBytes > 0))
    throw new LmqError('argument/option', 'maxShardBytes is out of range', { op, expected: 'more than 0', found: maxShardBytes });
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) throw new LmqError('argument/value', 'two tensors have one name', { op, tensor: name });
    names.add(name);
  }
  const total = tensors.reduce((sum, t) => sum + safetensorsBytes(t), 0);
  const phase = createPhase('write', total, 'bytes', opts);
  let done = 0;
  const counted = (t: TensorToWrite): TensorToWrite => ({
    ...t,
    async bytes() {
      phase(done, t.name);
      const data = await t.bytes();
      done += data.byteLength;
      return data;
    },
  });
  const parts = split(tensors, maxShardBytes);
  if (parts.length > MAX_SHARDS)
    throw new LmqError('argument/option', 'there would be too many shards', {
      op,
      expected: `at most ${MAX_SHARDS}`,
      found: parts.length,
      hint: 'Raise maxShardBytes.',
    });
  const number = (i: number) => String(i).padStart(5, '0');
  const nameOf = (i: number) =>
    parts.length === 1 ? 'model.safetensors' : `model-${number(i + 1)}-of-${number(parts.length)}.safetensors`;
  const written: string[] = [];
  const put = async (file: string, write: (sink: ByteSink) => Promise<unknown>) => {
    await writeFileAtomic(join(dir, file), write, signal ? { signal } : {}, files);
    written.push(file);
  };
  const weightMap: [string, string][] = [];
  try {
    for (const [i, part] of parts.entries()) {
      const file = nameOf(i);
      await put(file, (sink) => writeSafetensors(sink, part.map(counted), metadata));
      for (const t of part) weightMap.push([t.name, file]);
    }
    if (parts.length > 1) {
      const entries = weightMap.map(([name, shard]) => `    ${JSON.stringify(name)}: ${JSON.stringify(shard)}`);
      const text = `{\n  "metadata": { "total_size": ${total} },\n  "weight_map": {\n${entries.join(',\n')}\n  }\n}\n`;
      await put('model.safetensors.index.json', (sink) => sink.write(new TextEncoder().encode(text)));
    }
  } catch (e) {
    for (const file of written) await files.rm(join(dir, file), { force: true }).catch(() => {}); // they were not there before
    throw e;
  }
  phase(total);
  return { files: written, bytes: total };
}
