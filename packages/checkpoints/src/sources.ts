/**
 * Byte sources that work everywhere: memory and Blobs (a browser's files among them). Files on disk: `@lmq/checkpoints/node`; files on a
 * server: `url-source.ts`.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { checkRange } from './_checks.js';
import { concat } from './_concat.js';
import type { ByteSink, ByteSource } from './api.js';

/** Bytes in memory. Reads are copies: what is read may be changed. */
export function memorySource(bytes: Uint8Array, name: string): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.byteLength,
    async read(offset, length) {
      checkRange(source, offset, length);
      return bytes.slice(offset, offset + length);
    },
    async close() {},
  };
  return source;
}

/** A Blob or a File, e.g. of an `<input type="file">`. */
export function blobSource(blob: Blob, name: string): ByteSource {
  const source: ByteSource = {
    name,
    size: blob.size,
    async read(offset, length) {
      checkRange(source, offset, length);
      let bytes: Uint8Array;
      try {
        bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (cause) {
        throw new LmqError('file/io', 'the file cannot be read', { op: 'read', file: name, offset, hint: 'Choose the file again.', cause });
      }
      if (bytes.byteLength !== length)
        throw new LmqError('file/truncated', 'the file ends too early', {
          op: 'read',
          file: name,
          offset,
          expected: `${length} bytes`,
          found: `${bytes.byteLength} bytes`,
          hint: 'Choose the file again.',
        });
      return bytes;
    },
    async close() {},
  };
  return source;
}

/** A sink that keeps everything in memory. */
export function memorySink(): ByteSink & { bytes(): Uint8Array } {
  const parts: Uint8Array[] = [];
  return {
    async write(bytes) {
      parts.push(bytes.slice());
    },
    bytes: () => concat(parts),
  };
}
