// Every system call of the writers is made to fail, one after another: what is on disk afterwards is what the documentation promises.
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isLmqError, type LmqError } from '@lmq/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFolder, type FileSystem, writeFileAtomic } from '../src/_node/atomic.js';
import { writeShards } from '../src/_node/shards.js';
import type { ByteSink, TensorToWrite } from '../src/api.js';
import { openCheckpoint } from '../src/node.js';
import { CALLS, type Call, type Faults, faulty } from './_faulty.js';
import { utf8 } from './_files.js';

let dir = '';
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'lmq-faults-'));
});
afterEach(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});
const at = (...parts: string[]) => join(dir, ...parts);

const CHUNKS = 5;
const write = async (sink: ByteSink) => {
  for (let i = 0; i < CHUNKS; i++) await sink.write(utf8('chunk'));
};

/** Empties the folder, runs `job` with the faults, returns its error. */
async function run(job: (files: FileSystem) => Promise<unknown>, faults: Faults, prepare = async () => {}) {
  for (const name of await fs.readdir(dir)) await fs.rm(at(name), { recursive: true });
  await prepare();
  const system = faulty(faults);
  let error: LmqError | undefined;
  try {
    await job(system.files);
  } catch (e) {
    if (!isLmqError(e)) throw e;
    error = e;
  }
  return { error, names: (await fs.readdir(dir)).sort(), ...system };
}

/** Fails the n-th call of a kind for every n until nothing fails; `check` sees each outcome. Returns how many failed. */
async function each(
  call: Call,
  job: (files: FileSystem) => Promise<unknown>,
  prepare: () => Promise<void>,
  check: (outcome: { error: LmqError; names: string[]; n: number; last: boolean }) => Promise<void> | void,
): Promise<number> {
  const total = (await run(job, {}, prepare)).count(call);
  for (let n = 1; ; n++) {
    const { error, names } = await run(job, { fail: { [call]: n } }, prepare);
    if (!error) return n - 1;
    expect(error.code, `${call} ${n}`).toBe('file/io');
    expect(error.facts.file, `${call} ${n}`).toContain(dir);
    expect(error.facts.found).toBe('EIO');
    await check({ error, names, n, last: n === total });
  }
}

describe('writeFileAtomic', () => {
  const made: Record<'fresh' | 'force', Partial<Record<Call, number>>> = {
    fresh: { open: 2, write: CHUNKS, sync: 2, stat: 1, close: 2, rename: 1, lstat: 2 },
    force: { open: 2, write: CHUNKS, sync: 2, stat: 1, close: 2, rename: 1, lstat: 2 },
  };
  it.each(CALLS)('leaves nothing when a call of %s fails', async (call) => {
    const failed = await each(
      call,
      (files) => writeFileAtomic(at('f'), write, {}, files),
      async () => {},
      ({ names, n }) => expect(names, `${call} ${n}`).toEqual([]),
    );
    expect(failed).toBe(made.fresh[call] ?? 0);
  });

  it.each(CALLS)('keeps the old file when a call of %s fails', async (call) => {
    const failed = await each(
      call,
      (files) => writeFileAtomic(at('f'), write, { force: true }, files),
      () => fs.writeFile(at('f'), 'old'),
      async ({ names, n, last }) => {
        expect(names, `${call} ${n}`).toEqual(['f']);
        // the last open, sync and close belong to the folder, after the new file took its place
        const late = last && (call === 'open' || call === 'sync' || call === 'close');
        expect(await fs.readFile(at('f'), 'utf8'), `${call} ${n}`).toBe(late ? 'chunk'.repeat(CHUNKS) : 'old');
      },
    );
    expect(failed).toBe(made.force[call] ?? 0);
  });

  it('writes everything in short writes', async () => {
    const { error, count } = await run((files) => writeFileAtomic(at('f'), write, {}, files), { shortWrites: 2 });
    expect(error).toBeUndefined();
    expect(count('write')).toBe(3 * CHUNKS);
    expect(await fs.readFile(at('f'), 'utf8')).toBe('chunk'.repeat(CHUNKS));
  });

  it('does not wait for ever for a write that takes nothing', async () => {
    const { error, names } = await run((files) => writeFileAtomic(at('f'), write, {}, files), { shortWrites: 0 });
    expect(error).toMatchObject({ code: 'file/io', facts: { file: at('f'), offset: 0 } });
    expect(names).toEqual([]);
  });

  it('says that the disk is full', async () => {
    for (const code of ['ENOSPC', 'EDQUOT']) {
      const { error, names } = await run((files) => writeFileAtomic(at('f'), write, {}, files), { fail: { write: 3 }, code });
      expect(error).toMatchObject({ code: 'file/io', facts: { file: at('f'), found: code, hint: 'Free some disk space.' } });
      expect(names).toEqual([]);
    }
  });

  it('tells the first error when cleaning up fails too, and only then leaves a partial file', async () => {
    const { error, names } = await run((files) => writeFileAtomic(at('f'), write, {}, files), { fail: { write: 2, rm: 0 } });
    expect((error!.cause as Error).message).toContain('injected in write');
    expect(names).toEqual([expect.stringMatching(/^f\.partial-/)]);
  });
});

describe('createFolder', () => {
  const job = (force: boolean) => async (files: FileSystem) => {
    const folder = await createFolder(at('m'), { force }, files);
    await fs.writeFile(join(folder.dir, 'config.json'), 'new');
    await fs.mkdir(join(folder.dir, 'sub'));
    await fs.writeFile(join(folder.dir, 'sub', 'x'), 'new');
    try {
      await folder.commit();
    } catch (e) {
      await folder.abort().catch((second: unknown) => {
        if (!isLmqError(second)) throw second;
      });
      throw e;
    }
  };
  const old = async () => {
    await fs.mkdir(at('m'));
    await fs.writeFile(at('m', 'config.json'), 'old');
  };

  it.each(CALLS)('leaves nothing when a call of %s fails', async (call) => {
    const failed = await each(
      call,
      job(false),
      async () => {},
      ({ names, n }) => expect(names, `${call} ${n}`).toEqual([]),
    );
    // opened, synced and closed: two files, two folders, and the folder around
    const made: Partial<Record<Call, number>> = { open: 5, sync: 5, close: 5, rename: 1, lstat: 2, mkdir: 1, readdir: 2 };
    expect(failed).toBe(made[call] ?? 0);
  });

  it.each(CALLS)('keeps the old folder when a call of %s fails', async (call) => {
    const failed = await each(call, job(true), old, async ({ error, names, n }) => {
      const contents = await fs.readFile(at('m', 'config.json'), 'utf8');
      if (call === 'rm') {
        expect(contents).toBe('new'); // only the old one, moved aside, could not be removed, and the error says so
        expect(names).toEqual(['m', expect.stringMatching(/^m\.old-/)]);
        expect(error.facts.file).toBe(at(names[1]!));
        expect(error.facts.hint).toContain('by hand');
        return;
      }
      expect(names, `${call} ${n}`).toEqual(['m']);
      expect(contents, `${call} ${n}`).toBe('old');
      expect(await fs.readdir(at('m'))).toEqual(['config.json']);
    });
    const made: Partial<Record<Call, number>> = { open: 5, sync: 5, close: 5, rename: 2, rm: 1, lstat: 2, mkdir: 1, readdir: 4 };
    expect(failed).toBe(made[call] ?? 0);
  });
});

describe('writeShards', () => {
  const tensor = (name: string): TensorToWrite => ({
    name,
    shape: [8],
    dtype: 'F32',
    bytes: () => new Uint8Array(new Float32Array(8).fill(7).buffer),
  });
  const job = (files: FileSystem) => writeShards(dir, ['a', 'b', 'c'].map(tensor), { maxShardBytes: 32 }, files);

  it.each(CALLS)('leaves nothing when a call of %s fails', async (call) => {
    const failed = await each(
      call,
      job,
      async () => {},
      ({ names, n }) => expect(names, `${call} ${n}`).toEqual([]),
    );
    // four files: three shards of a header and a tensor, and the index
    const made: Partial<Record<Call, number>> = { open: 8, write: 7, sync: 8, stat: 4, close: 8, rename: 4, lstat: 8 };
    expect(failed).toBe(made[call] ?? 0);
  });

  it('leaves files of others alone', async () => {
    const { error, names } = await run(job, { fail: { write: 5 } }, () => fs.writeFile(at('config.json'), '{}'));
    expect(error?.code).toBe('file/io');
    expect(names).toEqual(['config.json']);
  });

  it('never has an index without all shards, whichever call is the last before a crash', async () => {
    const outcomes = new Set<string>();
    for (let n = 1; ; n++) {
      // a crash: this call and all that follow, cleaning up included, never happen
      let made = 0;
      const dying =
        <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
        async (...args: A): Promise<R> => {
          if (++made >= n) throw Object.assign(new Error('crash'), { code: 'EIO' });
          return call(...args);
        };
      const open = dying(async (...args: Parameters<typeof fs.open>) => {
        const handle = await fs.open(...args);
        for (const name of ['write', 'sync', 'stat'] as const)
          Object.defineProperty(handle, name, { value: dying((handle[name] as (...a: unknown[]) => Promise<unknown>).bind(handle)) });
        return handle;
      });
      const files = { ...fs, open, rename: dying(fs.rename), rm: dying(fs.rm as never) } as unknown as FileSystem;
      const { error, names } = await run(() => job(files), {});
      const complete = names.filter((f) => f.endsWith('.safetensors'));
      const index = names.includes('model.safetensors.index.json');
      outcomes.add(`${complete.length}${index ? ' and the index' : ''}`);
      if (index) expect(complete).toHaveLength(3);
      for (const file of complete) {
        const shard = await openCheckpoint(at(file)); // what has its final name is whole
        expect(shard.tensors.size).toBe(1);
        await shard.close();
      }
      if (!error) break;
    }
    expect([...outcomes]).toEqual(['0', '1', '2', '3', '3 and the index']);
    const model = await openCheckpoint(dir);
    expect(model.tensors.size).toBe(3);
    await model.close();
  });
});
