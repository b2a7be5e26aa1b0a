// A file system on which chosen calls fail, or write less than they were given.
import * as fs from 'node:fs/promises';
import type { FileSystem } from '../src/_node/atomic.js';

export const CALLS = ['open', 'write', 'sync', 'stat', 'close', 'rename', 'rm', 'lstat', 'mkdir', 'readdir'] as const;
export type Call = (typeof CALLS)[number];

export interface Faults {
  /** Fails the n-th call (from 1) of this kind; 0 for every call. */
  fail?: Partial<Record<Call, number>>;
  /** Code of the failure. Default EIO. */
  code?: string;
  /** Bytes that one write takes at most. */
  shortWrites?: number;
}

/** The real file system with faults; `count` tells how often each call was made, `log` in which order. */
export function faulty({ fail = {}, code = 'EIO', shortWrites }: Faults): {
  files: FileSystem;
  count: (call: Call) => number;
  log: Call[];
} {
  const log: Call[] = [];
  const count = (call: Call) => log.filter((c) => c === call).length;
  const wrap =
    <A extends unknown[], R>(name: Call, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      log.push(name);
      if (fail[name] === 0 || fail[name] === count(name)) throw Object.assign(new Error(`${code}: injected in ${name}`), { code });
      return call(...args);
    };
  const open = wrap('open', async (...args: Parameters<typeof fs.open>) => {
    const handle = await fs.open(...args);
    const write = handle.write.bind(handle) as (b: Uint8Array, at: number, n: number, to: number) => Promise<unknown>;
    const calls = {
      write: wrap('write', (b: Uint8Array, at: number, n: number, to: number) => write(b, at, Math.min(n, shortWrites ?? n), to)),
      sync: wrap('sync', handle.sync.bind(handle)),
      stat: wrap('stat', handle.stat.bind(handle)),
      close: () => close().then(failing), // closed in any case, so that no descriptor leaks
    };
    const close = handle.close.bind(handle);
    const failing = wrap('close', async () => {});
    for (const [name, value] of Object.entries(calls)) Object.defineProperty(handle, name, { value });
    return handle;
  });
  const files = {
    ...fs,
    open,
    rename: wrap('rename', fs.rename),
    rm: wrap('rm', fs.rm as never),
    lstat: wrap('lstat', fs.lstat as never),
    mkdir: wrap('mkdir', fs.mkdir as never),
    readdir: wrap('readdir', fs.readdir as never),
  };
  return { files: files as unknown as FileSystem, count, log };
}
