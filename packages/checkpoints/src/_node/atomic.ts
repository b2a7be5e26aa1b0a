/**
 * Files and folders that are either complete under their name or not there at all: written under a temporary name beside the target,
 * synced to disk, renamed, and the folder synced, so that a crash at any moment leaves nothing half-written under the final name.
 * @module
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { LmqError } from '@lmq/tensor';
import type { ByteSink } from '../api.js';
import { io, systemCode } from './errors.js';

/** The system calls that are used, so that tests can make each of them fail. */
export type FileSystem = Pick<typeof fs, 'open' | 'rename' | 'rm' | 'lstat' | 'mkdir' | 'readdir'>;

export interface PlaceOpts {
  /** Replace an existing file, or model folder. Default false: it is refused. */
  force?: boolean;
  /** Told the temporary name when everything is complete and on disk, before it gets its final name. */
  beforeRename?: (temporary: string) => Promise<unknown>;
}

export interface WriteFileOpts extends PlaceOpts {
  /** Stops before the next write; nothing is left behind. */
  signal?: AbortSignal;
}

function partialName(path: string, word = 'partial'): string {
  return join(dirname(path), `${basename(path)}.${word}-${process.pid}-${randomBytes(4).toString('hex')}`);
}

/**
 * Removes what killed processes have left of writing `path`: files and folders under its temporary names. Those of running processes stay.
 * @throws LmqError `file/io`, `file/missing` when the parent folder does not exist
 */
export async function removePartials(path: string, files: FileSystem = fs): Promise<void> {
  const op = 'removePartials';
  const folder = dirname(path);
  const start = `${basename(path)}.partial-`;
  for (const name of await io(op, folder, () => files.readdir(folder))) {
    const pid = name.startsWith(start) && /^(\d+)-[0-9a-f]{8}$/.exec(name.slice(start.length))?.[1];
    if (!pid || isRunning(Number(pid))) continue;
    const left = join(folder, name);
    await io(op, left, () => files.rm(left, { recursive: true, force: true }));
  }
}

/** Whether there is a process of this id; it may be another one by now. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return systemCode(e) === 'EPERM'; // of another user
  }
}

/** `undefined` when there is nothing at `path`. */
async function look(files: FileSystem, path: string, op: string): Promise<'file' | 'folder' | undefined> {
  try {
    return (await files.lstat(path)).isDirectory() ? 'folder' : 'file';
  } catch (e) {
    if (systemCode(e) === 'ENOENT') return undefined;
    return io(op, path, () => Promise.reject(e));
  }
}

async function refuseExisting(files: FileSystem, path: string, force: boolean, op: string): Promise<void> {
  const kind = await look(files, path, op);
  if (kind === 'folder')
    throw new LmqError('file/exists', 'there is a folder of this name', { op, file: path, hint: 'Choose another name.' });
  if (kind && !force)
    throw new LmqError('file/exists', 'the output is already there', { op, file: path, hint: 'Choose another name, or force.' });
}

/** Makes a rename durable. Windows cannot open folders; there the file system does it by itself. */
async function syncFolder(files: FileSystem, path: string, op: string): Promise<void> {
  if (process.platform === 'win32') return;
  await io(op, path, async () => {
    const handle = await files.open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
}

/**
 * Writes a file that appears under its name only when it is complete and on disk. On failure or abort nothing is left, and an existing
 * file stays as it was, with two exceptions: where removing the temporary file fails as well, it stays; and with `force`, when only
 * the last step fails (syncing the folder, so that the new name survives a power cut), the new file is there, complete.
 * @param write puts the contents into the sink
 * @throws LmqError `file/exists` before anything is written, `file/io`, `file/missing` when the folder does not exist; or what `write` throws
 */
export async function writeFileAtomic(
  path: string,
  write: (sink: ByteSink) => Promise<unknown>,
  opts: WriteFileOpts = {},
  files: FileSystem = fs,
): Promise<void> {
  const op = 'writeFileAtomic';
  const { force = false, beforeRename, signal } = opts;
  signal?.throwIfAborted();
  await refuseExisting(files, path, force, op);
  const partial = partialName(path);
  const handle = await io(op, partial, () => files.open(partial, 'wx'));
  let open = true;
  try {
    let length = 0;
    await write({
      async write(bytes) {
        signal?.throwIfAborted();
        for (let done = 0; done < bytes.byteLength; ) {
          const size = Math.min(bytes.byteLength - done, 2 ** 30);
          const { bytesWritten } = await io(op, path, () => handle.write(bytes, done, size, length)); // may be fewer than asked for
          if (!(bytesWritten > 0)) {
            const hint = 'Check that the disk is not full.';
            throw new LmqError('file/io', 'the operating system takes no more bytes', { op, file: path, offset: length, hint });
          }
          done += bytesWritten;
          length += bytesWritten;
        }
      },
    });
    signal?.throwIfAborted();
    await io(op, path, () => handle.sync());
    const { size } = await io(op, path, () => handle.stat());
    if (size !== length)
      throw new LmqError('file/io', 'the file does not have the size that was written', { op, file: path, expected: length, found: size });
    open = false;
    await io(op, path, () => handle.close());
    await beforeRename?.(partial);
    await refuseExisting(files, path, force, op); // someone else may have been faster
    await io(op, path, () => files.rename(partial, path));
  } catch (e) {
    if (open) await handle.close().catch(() => {});
    await files.rm(partial, { force: true }).catch(() => {});
    throw e;
  }
  try {
    await syncFolder(files, dirname(path), op);
  } catch (e) {
    if (!force) await files.rm(path, { force: true }).catch(() => {}); // with force the old contents are gone, and the new are complete
    throw e;
  }
}

/** A folder being written. End with `commit` or `abort`. */
export interface FolderWriter {
  /** Temporary folder beside the target: write here. */
  readonly dir: string;
  /**
   * Syncs everything and gives the folder its name. On failure the old folder stays, and `abort` still works; but where only removing the
   * old folder fails, the new one is in place, and the error names the old one, moved aside.
   */
  commit(): Promise<void>;
  /** Removes the temporary folder. */
  abort(): Promise<void>;
}

const MODEL_FILE = /^(lmq\.json|config\.json|model\.safetensors\.index\.json|.*\.safetensors|.*\.gguf)$/;

/** Only a folder that holds a model, or nothing, may be replaced: `force` with a wrong path must not remove somebody's work. */
async function refuseForeignFolder(files: FileSystem, path: string, op: string): Promise<void> {
  const fromTarget = relative(resolve(path), process.cwd());
  const outside = fromTarget === '..' || fromTarget.startsWith(`..${sep}`) || isAbsolute(fromTarget);
  if (!outside) throw new LmqError('file/exists', 'the output is the folder we are in', { op, file: path, hint: 'Choose another name.' });
  const names = await io(op, path, () => files.readdir(path));
  if (names.length && !names.some((n) => MODEL_FILE.test(n)))
    throw new LmqError('file/exists', 'the output is a folder that holds no model', {
      op,
      file: path,
      hint: 'It is not removed, even by force. Choose another name.',
    });
}

async function checkTarget(files: FileSystem, path: string, force: boolean, op: string): Promise<boolean> {
  const kind = await look(files, path, op);
  if (!kind) return false;
  if (kind === 'file') throw new LmqError('file/exists', 'there is a file of this name', { op, file: path, hint: 'Choose another name.' });
  if (!force) throw new LmqError('file/exists', 'the output is already there', { op, file: path, hint: 'Choose another name, or force.' });
  await refuseForeignFolder(files, path, op);
  return true;
}

async function syncTree(files: FileSystem, dir: string, op: string): Promise<void> {
  for (const entry of await io(op, dir, () => files.readdir(dir, { withFileTypes: true }))) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) await syncTree(files, path, op);
    else if (entry.isFile()) {
      await io(op, path, async () => {
        const handle = await files.open(path, 'r+');
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
      });
    }
  }
  await syncFolder(files, dir, op);
}

/**
 * Begins a folder that appears under its name only at `commit`.
 * @param opts.force replace an existing model folder: moved aside at `commit`, then removed. Default false.
 * @throws LmqError `file/exists`, `file/missing` when the parent folder does not exist, `file/io`
 */
export async function createFolder(path: string, opts: PlaceOpts = {}, files: FileSystem = fs): Promise<FolderWriter> {
  const op = 'createFolder';
  const { force = false, beforeRename } = opts;
  const target = resolve(path);
  await checkTarget(files, target, force, op);
  const dir = partialName(target);
  await io(op, dir, () => files.mkdir(dir));
  let ended = false;
  return {
    dir,
    async commit() {
      if (ended) throw new LmqError('argument/value', 'the folder was already committed or aborted', { op, file: path });
      await syncTree(files, dir, op);
      await beforeRename?.(dir);
      const old = (await checkTarget(files, target, force, op)) ? partialName(target, 'old') : undefined;
      if (old) await io(op, path, () => files.rename(target, old));
      let placed = false;
      try {
        await io(op, path, () => files.rename(dir, target));
        placed = true;
        await syncFolder(files, dirname(target), op);
      } catch (e) {
        if (placed) await files.rename(target, dir).catch(() => {});
        if (old) await files.rename(old, target).catch(() => {});
        throw e;
      }
      ended = true;
      if (!old) return;
      try {
        await files.rm(old, { recursive: true, force: true });
      } catch (cause) {
        const hint = 'The new folder is complete. Remove the old one, moved aside under this name, by hand.';
        throw new LmqError('file/io', 'the old folder cannot be removed', { op, file: old, found: systemCode(cause), hint, cause });
      }
    },
    async abort() {
      if (ended) return;
      ended = true;
      await io(op, dir, () => files.rm(dir, { recursive: true, force: true }));
    },
  };
}
