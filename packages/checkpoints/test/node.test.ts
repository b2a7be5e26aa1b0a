import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProgressEvent } from '@lmq/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SafetensorsFile, TensorToWrite } from '../src/api.js';
import { writeGguf } from '../src/gguf-write.js';
import { lmqManifest, toLmqTensors } from '../src/lmq-write.js';
import {
  createFolder,
  fileSource,
  folderSource,
  openCheckpoint,
  readFolderText,
  removePartials,
  writeFileAtomic,
  writeShards,
} from '../src/node.js';
import { expectFailure, failure } from './_files.js';

let dir = '';
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'lmq-test-'));
});
afterEach(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

const at = (...parts: string[]) => join(dir, ...parts);
const text = (s: string) => new TextEncoder().encode(s);
const tensor = (name: string, n: number): TensorToWrite => ({
  name,
  shape: [n],
  dtype: 'F32',
  bytes: () => new Uint8Array(new Float32Array(n).fill(n).buffer),
});

describe('fileSource', () => {
  it('reads by range', async () => {
    await fs.writeFile(at('f'), text('0123456789'));
    const source = await fileSource(at('f'));
    expect([source.name, source.size]).toEqual([at('f'), 10]);
    const [a, b] = await Promise.all([source.read(0, 3), source.read(7, 3)]);
    expect([a, b]).toEqual([text('012'), text('789')]);
    expect(await source.read(10, 0)).toEqual(new Uint8Array(0));
    await expectFailure(() => source.read(8, 3), 'file/truncated', { offset: 8, file: at('f') });
    await fs.truncate(at('f'), 5); // while it is open
    await expectFailure(() => source.read(3, 4), 'file/truncated', { offset: 3 });
    await source.close();
  });

  it('says what is wrong with a path', async () => {
    await expectFailure(() => fileSource(at('nothing')), 'file/missing', { file: at('nothing') });
    await expectFailure(() => fileSource(dir), 'file/format', { file: dir });
  });
});

describe('writeFileAtomic', () => {
  it('writes, and leaves nothing else', async () => {
    await writeFileAtomic(at('f'), async (sink) => {
      await sink.write(text('hello '));
      expect(await fs.readdir(dir)).toEqual([expect.stringMatching(/^f\.partial-\d+-[0-9a-f]{8}$/)]);
      await sink.write(text('world'));
    });
    expect(await fs.readFile(at('f'), 'utf8')).toBe('hello world');
    expect(await fs.readdir(dir)).toEqual(['f']);
  });

  it('refuses an existing file before writing, replaces it by force', async () => {
    await fs.writeFile(at('f'), 'old');
    let called = false;
    const write = async (sink: { write(b: Uint8Array): Promise<void> }) => {
      called = true;
      await sink.write(text('new'));
    };
    await expectFailure(() => writeFileAtomic(at('f'), write), 'file/exists', { file: at('f') });
    expect(called).toBe(false);
    await writeFileAtomic(at('f'), write, { force: true });
    expect(await fs.readFile(at('f'), 'utf8')).toBe('new');
    await fs.mkdir(at('d'));
    await expectFailure(() => writeFileAtomic(at('d'), write, { force: true }), 'file/exists');
    await expectFailure(() => writeFileAtomic(at('no', 'f'), write), 'file/missing');
  });

  it('refuses a file that appeared meanwhile', async () => {
    await expectFailure(() => writeFileAtomic(at('f'), () => fs.writeFile(at('f'), 'theirs')), 'file/exists');
    expect(await fs.readdir(dir)).toEqual(['f']);
    expect(await fs.readFile(at('f'), 'utf8')).toBe('theirs');
  });

  it('leaves nothing when the writer fails or is aborted', async () => {
    const boom = new Error('boom');
    await expect(
      writeFileAtomic(at('f'), async (sink) => {
        await sink.write(text('x'));
        throw boom;
      }),
    ).rejects.toBe(boom);
    expect(await fs.readdir(dir)).toEqual([]);
    const abort = new AbortController();
    const write = async (sink: { write(b: Uint8Array): Promise<void> }) => {
      await sink.write(text('x'));
      abort.abort(boom);
      await sink.write(text('y'));
    };
    await expect(writeFileAtomic(at('f'), write, { signal: abort.signal })).rejects.toBe(boom);
    expect(await fs.readdir(dir)).toEqual([]);
  });
});

describe('createFolder', () => {
  const fill = async (d: string) => {
    await fs.writeFile(join(d, 'config.json'), '{}');
    await fs.mkdir(join(d, 'sub'));
    await fs.writeFile(join(d, 'sub', 'x'), 'new');
  };

  it('appears at commit', async () => {
    const folder = await createFolder(at('m'));
    await fill(folder.dir);
    expect(await fs.readdir(dir)).toEqual([expect.stringMatching(/^m\.partial-/)]);
    await folder.commit();
    expect(await fs.readdir(dir)).toEqual(['m']);
    expect(await fs.readFile(at('m', 'sub', 'x'), 'utf8')).toBe('new');
    await expectFailure(() => folder.commit(), 'argument/value');
    await folder.abort(); // nothing to do
    expect(await fs.readdir(dir)).toEqual(['m']);
  });

  it('is gone after abort', async () => {
    const folder = await createFolder(at('m'));
    await fill(folder.dir);
    await folder.abort();
    expect(await fs.readdir(dir)).toEqual([]);
  });

  it('refuses what is there, and replaces a model by force', async () => {
    await fs.mkdir(at('m'));
    await fs.writeFile(at('m', 'old.safetensors'), '');
    await expectFailure(() => createFolder(at('m')), 'file/exists');
    const folder = await createFolder(at('m'), { force: true });
    await fill(folder.dir);
    await folder.commit();
    expect((await fs.readdir(at('m'))).sort()).toEqual(['config.json', 'sub']);
    expect(await fs.readdir(dir)).toEqual(['m']);
  });

  it('never replaces what is not a model', async () => {
    await fs.mkdir(at('thesis'));
    await fs.writeFile(at('thesis', 'chapter1.txt'), 'years of work');
    await expectFailure(() => createFolder(at('thesis'), { force: true }), 'file/exists');
    await fs.writeFile(at('f'), '');
    await expectFailure(() => createFolder(at('f'), { force: true }), 'file/exists');
    await expectFailure(() => createFolder(process.cwd(), { force: true }), 'file/exists');
    await expectFailure(() => createFolder(join(process.cwd(), '..'), { force: true }), 'file/exists');
    await expectFailure(() => createFolder(at('no', 'm')), 'file/missing');
    expect((await fs.readdir(dir)).sort()).toEqual(['f', 'thesis']);
  });
});

describe('writeShards', () => {
  it('writes one file when everything fits', async () => {
    expect(await writeShards(dir, [tensor('a', 4), tensor('b', 4)], { maxShardBytes: 32 })).toEqual({
      files: ['model.safetensors'],
      bytes: 32,
    });
    const model = await openCheckpoint(dir);
    expect(model.metadata.get('format')).toBe('pt');
    expect(await model.read('b')).toMatchObject({ data: new Float32Array(4).fill(4) });
    await model.close();
  });

  it('writes shards, and the index last', async () => {
    const log: string[] = [];
    const events: ProgressEvent[] = [];
    const tensors = [tensor('a', 4), tensor('big', 100), tensor('b', 4), tensor('c', 4), tensor('d', 4)].map((t) => ({
      ...t,
      bytes: async () => {
        log.push(`${t.name}: ${(await fs.readdir(dir)).filter((f) => !f.includes('partial')).length}`);
        return t.bytes();
      },
    }));
    const { files } = await writeShards(dir, tensors, { maxShardBytes: 32, onProgress: (e) => events.push(e) });
    expect(files).toEqual([1, 2, 3, 4].map((i) => `model-0000${i}-of-00004.safetensors`).concat('model.safetensors.index.json'));
    expect(log).toEqual(['a: 0', 'big: 1', 'b: 2', 'c: 2', 'd: 3']);
    expect((await fs.readdir(dir)).sort()).toEqual(files);
    const index = JSON.parse(await fs.readFile(at(files[4]!), 'utf8'));
    expect(index.metadata.total_size).toBe(464);
    expect(index.weight_map).toEqual({ a: files[0], big: files[1], b: files[2], c: files[2], d: files[3] });
    expect(events.at(-1)).toMatchObject({ phase: 'write', done: 464, total: 464, unit: 'bytes' });
    for (const path of [dir, at(files[4]!)]) {
      const model = await openCheckpoint(path);
      expect(model.tensors.size).toBe(5);
      expect((await model.read('big')).shape).toEqual([1, 100]);
      await model.close();
    }
  });

  it('leaves nothing when it is stopped or a tensor fails', async () => {
    const abort = new AbortController();
    const stop: TensorToWrite = {
      ...tensor('b', 8),
      bytes: () => {
        abort.abort(new Error('stop'));
        return new Uint8Array(32);
      },
    };
    await expect(writeShards(dir, [tensor('a', 8), stop, tensor('c', 8)], { maxShardBytes: 32, signal: abort.signal })).rejects.toThrow(
      'stop',
    );
    expect(await fs.readdir(dir)).toEqual([]);
    const bad = { ...tensor('x', 2), bytes: () => new Uint8Array(7) };
    await expectFailure(() => writeShards(dir, [bad]), 'argument/value', { tensor: 'x' });
    await expectFailure(() => writeShards(dir, [tensor('x', 2), tensor('x', 2)]), 'argument/value', { tensor: 'x' });
    await expectFailure(() => writeShards(dir, [], { maxShardBytes: 0 }), 'argument/option');
    expect(await fs.readdir(dir)).toEqual([]);
  });
});

describe('openCheckpoint', () => {
  it('tells files by their first bytes', async () => {
    await writeFileAtomic(at('a.bin'), (sink) => writeGguf(sink, { metadata: [], tensors: [tensor('x', 8)] }));
    const gguf = await openCheckpoint(at('a.bin'));
    expect([gguf.format, gguf.tensors.size]).toEqual(['gguf', 1]);
    await gguf.close();
    await writeShards(dir, [tensor('x', 8)]);
    const st = (await openCheckpoint(at('model.safetensors'))) as SafetensorsFile;
    expect([st.format, st.dtype('x')]).toEqual(['safetensors', 'F32']);
    await st.close();
  });

  it('names the files of PyTorch, which it does not read', async () => {
    await fs.writeFile(at('weights.pt'), Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0));
    await expectFailure(() => openCheckpoint(at('weights.pt')), 'model/unsupported', { file: at('weights.pt') });
    for (const name of ['qmodel.pt', 'pytorch_model.bin']) {
      await fs.mkdir(at(`with ${name}`));
      await fs.writeFile(at(`with ${name}`, name), 'x');
      await expectFailure(() => openCheckpoint(at(`with ${name}`)), 'model/unsupported', { file: at(`with ${name}`, name) });
    }
  });

  it('opens a folder of our own', async () => {
    const t = { kind: 'dense' as const, shape: [1, 3] as [number, number], format: 'fp32' as const, data: Float32Array.of(1, 2, 3) };
    const { entry, tensors } = toLmqTensors('norm', t, [3]);
    await writeShards(dir, tensors);
    await fs.writeFile(at('lmq.json'), lmqManifest([['norm', entry]]));
    const model = await openCheckpoint(dir);
    expect([model.format, model.tensors.get('norm')!.shape]).toEqual(['lmq', [3]]);
    expect(await model.read('norm')).toEqual(t);
    await model.close();
    await fs.writeFile(at('lmq.json'), '{"lmq":1}');
    await expectFailure(() => openCheckpoint(dir), 'file/format', { file: at('lmq.json') });
  });

  it('says what is missing', async () => {
    await expectFailure(() => openCheckpoint(at('nothing')), 'file/missing', { file: at('nothing') });
    await expectFailure(() => openCheckpoint(dir), 'file/missing', { file: dir });
    await writeShards(dir, [tensor('a', 8), tensor('b', 8)], { maxShardBytes: 32 });
    await fs.rm(at('model-00002-of-00002.safetensors'));
    const e = await expectFailure(() => openCheckpoint(dir), 'file/missing', { file: 'model-00002-of-00002.safetensors' });
    expect(e.facts.hint).toContain('Download');
    await fs.writeFile(at('x.gguf'), '');
    expect((await failure(() => openCheckpoint(at('x.gguf')))).code).toBe('file/truncated');
    await fs.writeFile(at('x.safetensors'), 'GGML');
    expect((await failure(() => openCheckpoint(at('x.safetensors')))).code).toBe('file/truncated');
  });

  it('follows links into the cache of Hugging Face, and nowhere else', async () => {
    await fs.mkdir(at('blobs'));
    await fs.mkdir(at('snapshots', 'rev'), { recursive: true });
    await writeShards(at('blobs'), [tensor('a', 8)]);
    await fs.symlink('../../blobs/model.safetensors', at('snapshots', 'rev', 'model.safetensors'));
    const model = await openCheckpoint(at('snapshots', 'rev'));
    expect(model.tensors.size).toBe(1);
    await model.close();
    await fs.mkdir(at('m'));
    await fs.symlink('../blobs/model.safetensors', at('m', 'model.safetensors'));
    await expectFailure(() => openCheckpoint(at('m')), 'file/format', { file: at('m', 'model.safetensors') });
    await fs.rm(at('m', 'model.safetensors'));
    await fs.symlink('../blobs/model.safetensors', at('m', 's.safetensors'));
    await fs.writeFile(at('m', 'model.safetensors.index.json'), '{"weight_map":{"a":"s.safetensors"}}');
    await expectFailure(() => openCheckpoint(at('m')), 'file/format', { file: at('m', 's.safetensors') });
  });

  it('follows no link of an index or a manifest out of the folder', async () => {
    await fs.mkdir(at('m'));
    await fs.writeFile(at('elsewhere.json'), '{"weight_map":{}}');
    await fs.symlink('../elsewhere.json', at('m', 'model.safetensors.index.json'));
    await expectFailure(() => openCheckpoint(at('m')), 'file/format', { file: at('m', 'model.safetensors.index.json') });
    await fs.rm(at('m', 'model.safetensors.index.json'));
    await writeShards(at('m'), [tensor('a', 8)]);
    await fs.symlink('../elsewhere.json', at('m', 'lmq.json'));
    await expectFailure(() => openCheckpoint(at('m')), 'file/format', { file: at('m', 'lmq.json') });
  });

  it.skipIf(!existsSync('/dev/zero'))('reads no device as if it were a file', async () => {
    await fs.symlink('/dev/zero', at('x.index.json'));
    await expectFailure(() => openCheckpoint(at('x.index.json')), 'file/format', { file: at('x.index.json') });
    await fs.symlink('/dev/zero', at('x.gguf'));
    await expectFailure(() => openCheckpoint(at('x.gguf')), 'file/format', { file: at('x.gguf') });
    await fs.symlink('/dev/zero', at('model.safetensors'));
    await expectFailure(() => openCheckpoint(dir), 'file/missing', { file: dir });
  });

  it.skipIf(process.platform === 'win32')('does not wait for what a pipe may bring', async () => {
    execFileSync('mkfifo', [at('x.gguf')]);
    await expectFailure(() => openCheckpoint(at('x.gguf')), 'file/format', { file: at('x.gguf') });
    await fs.rename(at('x.gguf'), at('config.json'));
    await expectFailure(() => readFolderText(dir, 'config.json', 1000), 'file/format', { file: at('config.json') });
  });
});

describe('beforeRename', () => {
  it('sees what is complete, under another name; its error leaves everything as it was', async () => {
    await fs.writeFile(at('f'), 'old');
    const seen: unknown[] = [];
    const beforeRename = async (temporary: string) => seen.push(await fs.readFile(temporary, 'utf8'), await fs.readFile(at('f'), 'utf8'));
    await writeFileAtomic(at('f'), (sink) => sink.write(text('new')), { force: true, beforeRename });
    expect(seen).toEqual(['new', 'old']);
    expect(await fs.readFile(at('f'), 'utf8')).toBe('new');
    const fails = async () => Promise.reject(new Error('no'));
    await expect(writeFileAtomic(at('f'), async () => {}, { force: true, beforeRename: fails })).rejects.toThrow('no');
    expect(await fs.readdir(dir)).toEqual(['f']);

    const place = async (beforeRename: (temporary: string) => Promise<unknown>) => {
      const folder = await createFolder(at('m'), { force: true, beforeRename });
      await fs.writeFile(join(folder.dir, 'config.json'), String(seen.length));
      await folder.commit().finally(() => folder.abort());
    };
    await place(async (temporary) => seen.push(await fs.readdir(temporary), await fs.readdir(dir)));
    expect(seen.slice(2)).toEqual([['config.json'], ['f', expect.stringMatching(/^m\.partial-/)]]);
    await expect(place(fails)).rejects.toThrow('no');
    expect((await fs.readdir(dir)).sort()).toEqual(['f', 'm']);
    expect(await fs.readFile(at('m', 'config.json'), 'utf8')).toBe('2');
  });
});

describe('removePartials', () => {
  it('removes what killed processes left of this output, and nothing else', async () => {
    const { pid } = spawnSync(process.execPath, ['--version']); // gone by now
    await fs.mkdir(at(`m.partial-${pid}-0123abcd`, 'sub'), { recursive: true });
    await fs.writeFile(at(`m.partial-${pid}-0123abcd`, 'sub', 'x'), '');
    const others = [
      `m.partial-${process.pid}-0123abcd`,
      `m.partial-${pid}-mine`,
      `m2.partial-${pid}-0123abcd`,
      `m.old-${pid}-0123abcd`,
      'm',
    ];
    for (const name of [...others, `m.partial-${pid}-4567cdef`]) await fs.writeFile(at(name), '');
    await removePartials(at('m'));
    expect((await fs.readdir(dir)).sort()).toEqual(others.sort());
  });
});

describe('folderSource', () => {
  it('opens regular files of the folder, and what leads into the cache that it is a snapshot of', async () => {
    await fs.mkdir(at('blobs'));
    await fs.mkdir(at('snapshots', 'rev', 'sub'), { recursive: true });
    const snapshot = at('snapshots', 'rev');
    await fs.writeFile(at('blobs', 'hash'), 'blob');
    await fs.symlink('../../blobs/hash', at('snapshots', 'rev', 'LICENSE'));
    await fs.writeFile(at('snapshots', 'rev', 'sub', 'plain'), 'plain');
    for (const [name, contents] of [
      ['LICENSE', 'blob'],
      ['sub/plain', 'plain'],
    ] as const) {
      const source = await folderSource(snapshot, name);
      expect(await source.read(0, source.size)).toEqual(text(contents));
      await source.close();
    }
    await expectFailure(() => folderSource(snapshot, '../../blobs/other'), 'file/missing');
    await fs.writeFile(at('secret'), 'mine');
    await fs.symlink('../../secret', at('snapshots', 'rev', 'NOTICE'));
    await expectFailure(() => folderSource(snapshot, 'NOTICE'), 'file/format', { file: at('snapshots', 'rev', 'NOTICE') });
    await expectFailure(() => folderSource(snapshot, 'sub'), 'file/format', { file: at('snapshots', 'rev', 'sub') });
  });

  it.skipIf(process.platform === 'win32')('takes no socket', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(at('socket'), resolve));
    await expectFailure(() => folderSource(dir, 'socket'), 'file/format', { file: at('socket') });
    server.close();
  });
});

describe('readFolderText', () => {
  it('reads a small file of the folder', async () => {
    await fs.writeFile(at('config.json'), '{"a":"é"}');
    expect(await readFolderText(dir, 'config.json', 10)).toBe('{"a":"é"}');
    await expectFailure(() => readFolderText(dir, 'config.json', 9), 'file/limit', { file: at('config.json') });
    await expectFailure(() => readFolderText(dir, 'other.json', 9), 'file/missing', { file: at('other.json') });
    await fs.writeFile(at('bad.json'), Uint8Array.of(0x22, 0xff, 0x22));
    await expectFailure(() => readFolderText(dir, 'bad.json', 10), 'file/format', { file: at('bad.json') });
  });

  it('follows links as those of weights', async () => {
    await fs.mkdir(at('blobs'));
    await fs.mkdir(at('snapshots', 'rev'), { recursive: true });
    await fs.writeFile(at('blobs', 'hash'), '{}');
    await fs.symlink('../../blobs/hash', at('snapshots', 'rev', 'config.json'));
    expect(await readFolderText(at('snapshots', 'rev'), 'config.json', 10)).toBe('{}');
    await fs.mkdir(at('m'));
    await fs.symlink('../blobs/hash', at('m', 'config.json'));
    await expectFailure(() => readFolderText(at('m'), 'config.json', 10), 'file/format', { file: at('m', 'config.json') });
    await expectFailure(() => readFolderText(at('m'), '../blobs/hash', 10), 'file/format');
  });
});
