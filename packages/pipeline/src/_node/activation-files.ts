/**
 * Activations in files, one per block and stream: they spill out of memory by lying in the page cache while there is room, and outlive the process, so
 * that interrupted work goes on at the last finished block.
 * @module
 */
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LmqError } from '@lmq/tensor';
import type { ActivationStore, MakeStore, Stream } from '../activations.js';
import { exists } from './text-files.js';

const pathOf = (folder: string, layer: number, stream: Stream) => join(folder, `${stream}-${layer}.f32`);

/** Stores under `folder`. A file has its final name only once it is whole and on the disk. */
export function fileStores(folder: string): MakeStore {
  return async (layer, sizes, stream) => {
    const path = pathOf(folder, layer, stream);
    const partial = `${path}.partial`;
    const file = await open(partial, 'w+');
    const store = over(file, sizes, [path, partial]);
    return {
      ...store,
      async finish() {
        await file.sync();
        await rename(partial, path); // the open handle stays good
      },
    };
  };
}

/** The activations before block `layer` that an earlier run left, or undefined. */
export async function openActivations(
  folder: string,
  layer: number,
  sizes: readonly number[],
  stream: Stream,
): Promise<ActivationStore | undefined> {
  const path = pathOf(folder, layer, stream);
  if (!(await exists(path))) return undefined;
  const file = await open(path, 'r');
  return over(file, sizes, [path]);
}

type File = Awaited<ReturnType<typeof open>>;

function over(file: File, sizes: readonly number[], names: readonly string[]): ActivationStore {
  const offsets: number[] = [];
  let end = 0;
  for (const n of sizes) {
    offsets.push(end);
    end += n * Float32Array.BYTES_PER_ELEMENT;
  }
  return {
    async put(window, data) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      for (let done = 0; done < bytes.length; ) {
        done += (await file.write(bytes, done, bytes.length - done, offsets[window]! + done)).bytesWritten;
      }
    },
    async finish() {},
    async get(window) {
      const out = new Float32Array(sizes[window]!);
      const bytes = new Uint8Array(out.buffer);
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done, offsets[window]! + done);
        if (bytesRead === 0)
          throw new LmqError('file/truncated', 'activations are missing', {
            offset: offsets[window]! + done,
            hint: 'Start again with --restart.',
          });
        done += bytesRead;
      }
      return out;
    },
    close: () => file.close(),
    async dispose() {
      await file.close();
      for (const name of names) await rm(name, { force: true });
    },
  };
}
