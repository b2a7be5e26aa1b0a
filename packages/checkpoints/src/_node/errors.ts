/**
 * What the operating system says, as an `LmqError`.
 * @module
 */
import { LmqError } from '@lmq/tensor';

const HINTS: Readonly<Record<string, string>> = {
  EACCES: 'Check the permissions.',
  EPERM: 'Check the permissions.',
  ENOSPC: 'Free some disk space.',
  EDQUOT: 'Free some disk space.',
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  EISDIR: 'Name a file, not a folder.',
  EROFS: 'Choose a folder on a disk that can be written.',
};

/** Code of a system error, e.g. `ENOENT`, or the empty string. */
export function systemCode(e: unknown): string {
  const code = typeof e === 'object' && e !== null ? (e as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : '';
}

/** `file/missing` for a path that is not there, `file/exists` for one that is, `file/io` for everything else. */
export function ioError(cause: unknown, op: string, file: string): LmqError {
  const code = systemCode(cause);
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return new LmqError('file/missing', 'there is no such file or folder', { op, file, hint: 'Check the path.', cause });
  if (code === 'EEXIST')
    return new LmqError('file/exists', 'the output is already there', { op, file, hint: 'Choose another name, or force.', cause });
  const hint = HINTS[code];
  const found = code || String(cause);
  return new LmqError('file/io', 'the operating system refused', { op, file, found, ...(hint ? { hint } : {}), cause });
}

/** Runs a system call and turns its error. */
export async function io<T>(op: string, file: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (e) {
    throw ioError(e, op, file);
  }
}
