/**
 * A file on disk as a byte source.
 * @module
 */
import { constants, open } from 'node:fs/promises';
import { LmqError } from '@lmq/tensor';
import { allocate } from '../_checks.js';
import type { ByteSource } from '../api.js';
import { io, ioError, systemCode } from './errors.js';

/** Without waiting: opening a pipe to read would block until somebody writes. */
const READ = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0); // Windows has no such flag

/**
 * Opens a file for reading by range. Reads may run at the same time. Close it when done.
 * @throws LmqError `file/missing`, `file/format` for what is not a regular file, `file/io`
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const op = 'fileSource';
  const irregular = (cause?: unknown) =>
    new LmqError('file/format', 'not a regular file', { op, file: path, hint: 'Name a file, not a folder or a pipe.', cause });
  const handle = await open(path, READ).catch((e) => {
    throw systemCode(e) === 'ENXIO' ? irregular(e) : ioError(e, op, path); // a socket
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw irregular();
    const { size } = stat;
    return {
      name: path,
      size,
      async read(offset, length) {
        const facts = { op: 'read', file: path, offset };
        const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && offset + length <= size;
        const cut = (found: number): never => {
          throw new LmqError('file/truncated', 'the file ends too early', {
            ...facts,
            expected: `${length} bytes`,
            found: `${found} bytes`,
            hint: 'Download the file again.',
          });
        };
        if (!fits) cut(Math.max(0, size - offset));
        const bytes = allocate(length, facts);
        // one system call gives at most 2^31 - 1 bytes, and may give fewer than asked for
        for (let done = 0; done < length; ) {
          const n = await io('read', path, () => handle.read(bytes, done, Math.min(length - done, 2 ** 30), offset + done));
          if (n.bytesRead === 0) cut(done); // someone shortened the file
          done += n.bytesRead;
        }
        return bytes;
      },
      close: () => io('close', path, () => handle.close()),
    };
  } catch (e) {
    await handle.close().catch(() => {});
    throw e instanceof LmqError ? e : ioError(e, op, path);
  }
}
