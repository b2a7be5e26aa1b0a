import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRng, isLmqError } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ByteSource, GgufEntry, TensorToWrite } from '../src/api.js';
import { ggufPartName, openSplitGguf, splitGguf } from '../src/gguf-split.js';
import { writeGguf } from '../src/gguf-write.js';
import { openCheckpoint, writeGgufFile } from '../src/node.js';
import { memorySink, memorySource } from '../src/sources.js';
import { expectFailure } from './_files.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 5000) / 10;
const METADATA: GgufEntry[] = [
  { key: 'general.architecture', type: 'string', value: 'llama' },
  { key: 'general.alignment', type: 'u32', value: 64 },
];
const tensor = (name: string, values: number[]): TensorToWrite => ({
  name,
  shape: [values.length],
  dtype: 'F32',
  bytes: () => new Uint8Array(Float32Array.from(values).buffer),
});
const TENSORS = [tensor('a', [1, 2, 3, 4]), tensor('b', [5]), tensor('c', [6, 7]), tensor('d', [8, 9, 10, 11, 12, 13, 14, 15])];
const CONTENTS = { metadata: METADATA, tensors: TENSORS };

/** The parts in memory by file name. */
async function partsOf(contents = CONTENTS, limit = 20): Promise<Map<string, Uint8Array>> {
  const parts = splitGguf(contents, limit);
  const files = new Map<string, Uint8Array>();
  for (const [i, part] of parts.entries()) {
    const sink = memorySink();
    await writeGguf(sink, part);
    files.set(parts.length === 1 ? 'model.gguf' : ggufPartName('model', i, parts.length), sink.bytes());
  }
  return files;
}

function open(files: ReadonlyMap<string, Uint8Array>, name: string, closed: string[] = []) {
  const openPart = async (file: string): Promise<ByteSource> => {
    const bytes = files.get(file);
    if (!bytes) throw new Error(`ENOENT: ${file}`);
    return { ...memorySource(bytes, file), close: async () => void closed.push(file) };
  };
  return openSplitGguf(memorySource(files.get(name)!, `/models/${name}`), openPart);
}

describe('split GGUF files', () => {
  it('have the parts and keys of gguf-split', async () => {
    const parts = splitGguf(CONTENTS, 20);
    expect(parts.map((p) => p.tensors.map((t) => t.name))).toEqual([['a', 'b'], ['c'], ['d']]); // 16 + 4, 8, 32 bytes
    expect(parts[0]!.metadata.slice(0, 2)).toEqual(METADATA);
    expect(parts.map((p) => Object.fromEntries(p.metadata.map((e) => [e.key, e.value])))).toEqual([
      { 'general.architecture': 'llama', 'general.alignment': 64, 'split.no': 0, 'split.count': 3, 'split.tensors.count': 4 },
      { 'general.alignment': 64, 'split.no': 1, 'split.count': 3, 'split.tensors.count': 4 },
      { 'general.alignment': 64, 'split.no': 2, 'split.count': 3, 'split.tensors.count': 4 },
    ]);
    expect(parts[1]!.metadata.slice(1).map((e) => e.type)).toEqual(['u16', 'u16', 'i32']);
    expect(ggufPartName('model', 0, 3)).toBe('model-00001-of-00003.gguf');
    expect(splitGguf(CONTENTS, 1e9)).toEqual([CONTENTS]);
    await expectFailure(async () => splitGguf(CONTENTS, 0), 'argument/option');
    await expectFailure(async () => splitGguf(CONTENTS, Number.NaN), 'argument/option');
  });

  it('are read as one from any part', async () => {
    const files = await partsOf();
    for (const name of files.keys()) {
      const closed: string[] = [];
      const file = await open(files, name, closed);
      expect([...file.tensors.keys()]).toEqual(['a', 'b', 'c', 'd']);
      expect(file.metadata.get('general.architecture')).toBe('llama');
      for (const t of TENSORS) expect(await file.readBytes(t.name)).toEqual(await t.bytes());
      expect((await file.read('c')).shape).toEqual([1, 2]);
      await expectFailure(() => file.read('e'), 'model/missing');
      await file.close();
      expect(closed).toEqual([...files.keys()].filter((f) => f !== name));
    }
  });

  it('are found by the address of one, query and all', async () => {
    const files = await partsOf();
    const [first] = files.keys();
    const source = memorySource(files.get(first!)!, `https://host/models/${first}?download=true`);
    const file = await openSplitGguf(source, async (name) => memorySource(files.get(name)!, name));
    expect(file.tensors.size).toBe(4);
  });

  it('of one part are whole files', async () => {
    const files = await partsOf(CONTENTS, 1e9);
    expect((await open(files, 'model.gguf')).tensors.size).toBe(4);
    const one: GgufEntry[] = [...METADATA, { key: 'split.count', type: 'u16', value: 0 }];
    expect((await open(await partsOf({ ...CONTENTS, metadata: one }, 1e9), 'model.gguf')).tensors.size).toBe(4);
  });

  it('are refused, naming the part, when one is missing, of another model, or renamed; what was opened is closed', async () => {
    const files = await partsOf();
    const [first, second, third] = [...files.keys()] as [string, string, string];
    const closed: string[] = [];
    const without = new Map([...files].filter(([name]) => name !== third));
    expect((await expectFailure(() => open(without, first, closed), 'file/missing')).facts.file).toBe(third);
    expect(closed).toEqual([second]);
    const other = await partsOf({ ...CONTENTS, tensors: TENSORS.slice(1) }, 8);
    expect([...other.keys()]).toEqual([first, second, third]);
    expect((await expectFailure(() => open(new Map([...files, [second, other.get(second)!]]), first), 'file/format')).facts.file).toBe(
      second,
    );
    expect((await expectFailure(() => open(new Map([...files, [third, files.get(second)!]]), first), 'file/format')).facts.file).toBe(
      third,
    );
    const whole = (await partsOf(CONTENTS, 1e9)).get('model.gguf')!;
    await expectFailure(() => open(new Map([...files, [second, whole]]), first), 'file/format');
    await expectFailure(() => open(new Map([['renamed.gguf', files.get(first)!]]), 'renamed.gguf'), 'file/format');
    await expectFailure(() => open(new Map([...files, [second, files.get(first)!]]), second), 'file/format');
    const twice = await partsOf({ ...CONTENTS, tensors: [...TENSORS.slice(0, 3), tensor('a', [0, 0, 0, 0, 0, 0, 0, 0])] });
    expect((await expectFailure(() => open(twice, first), 'file/format')).facts.tensor).toBe('a');
    const fewer = await partsOf();
    const { metadata } = splitGguf(CONTENTS, 20)[2]!;
    const sink = memorySink();
    await writeGguf(sink, { metadata, tensors: [] });
    await expectFailure(() => open(new Map([...fewer, [third, sink.bytes()]]), first), 'file/format');
  });

  it(`in ${CASES} damaged sets end in an error or in all tensors`, async () => {
    const files = await partsOf();
    const names = [...files.keys()];
    const rng = createRng(5);
    const keys = ['split.no', 'split.count', 'split.tensors.count'];
    const ends = { read: 0, refused: 0 };
    for (let n = 0; n < CASES; n++) {
      const damaged = new Map(files);
      const name = names[rng.below(3)]!;
      const bytes = damaged.get(name)!.slice();
      const key = new TextEncoder().encode(keys[rng.below(3)]!);
      const at = bytes.findIndex((_, i) => key.every((b, k) => bytes[i + k] === b)) + key.length;
      const choice = rng.below(5);
      if (choice === 0) damaged.delete(name);
      else if (choice === 1) damaged.set(name, files.get(names[rng.below(3)]!)!);
      else {
        // the type or the value of one of the keys, or any byte
        bytes[choice < 4 ? at + rng.below(8) : rng.below(bytes.length)] = [0, 1, 2, 3, 4, 5, 255, rng.below(256)][rng.below(8)]!;
        damaged.set(name, bytes);
      }
      const start = names.find((f) => damaged.has(f))!;
      try {
        const file = await open(damaged, start);
        for (const t of file.tensors.keys()) await file.readBytes(t);
        expect(file.tensors.size === 4 || damaged.get(start) !== files.get(start)).toBe(true);
        ends.read++;
      } catch (e) {
        if (!isLmqError(e) || !e.code.startsWith('file/')) throw e;
        expect(e.facts.file).toMatch(/model-0000\d-of-00003\.gguf$/);
        ends.refused++;
      }
    }
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(CASES / 50);
  });
});

describe('split GGUF files on disk', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lmq-split-'));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  it('are written with the first part last, read by any, and not left behind half', async () => {
    const path = join(dir, 'x.gguf');
    const order: string[] = [];
    const bytesOf = (t: TensorToWrite) => {
      order.push(t.name);
      return t.bytes();
    };
    const watched = TENSORS.map((t) => ({ ...t, bytes: () => bytesOf(t) }));
    const files = await writeGgufFile(path, { ...CONTENTS, tensors: watched }, { maxShardBytes: 20 });
    expect(order).toEqual(['c', 'd', 'a', 'b']);
    expect(files).toEqual([1, 2, 3].map((n) => join(dir, `x-0000${n}-of-00003.gguf`)));
    for (const file of files) {
      const opened = await openCheckpoint(file);
      expect([...opened.tensors.keys()]).toEqual(['a', 'b', 'c', 'd']);
      await opened.close();
    }
    await expectFailure(() => writeGgufFile(path, CONTENTS, { maxShardBytes: 20 }), 'file/exists');
    await writeGgufFile(path, CONTENTS, { maxShardBytes: 20, force: true });
    await rm(files[1]!);
    expect((await expectFailure(() => openCheckpoint(files[2]!), 'file/missing')).facts.file).toBe('x-00002-of-00003.gguf');
    const failing = TENSORS.map((t) => (t.name === 'd' ? { ...t, bytes: () => Promise.reject(new Error('no')) } : t));
    await expect(writeGgufFile(join(dir, 'y.gguf'), { ...CONTENTS, tensors: failing }, { maxShardBytes: 20 })).rejects.toThrow('no');
    expect((await readdir(dir)).filter((f) => f.startsWith('y'))).toEqual([]);
    await rename(files[2]!, join(dir, 'z.gguf'));
    await expectFailure(() => openCheckpoint(join(dir, 'z.gguf')), 'file/format');
    await writeFile(join(dir, 'one.gguf'), await readFile(files[0]!));
    await expectFailure(() => openCheckpoint(join(dir, 'one.gguf')), 'file/format');
    expect(await writeGgufFile(join(dir, 'w.gguf'), CONTENTS, { maxShardBytes: 1e6 })).toEqual([join(dir, 'w.gguf')]);
  });
});
