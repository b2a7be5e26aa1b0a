// Files of more than 4 GiB, sparse, so that they take no room on disk; nothing of them is read but what is asked for.
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ByteSource } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { writeGguf } from '../src/gguf-write.js';
import { fileSource, openCheckpoint } from '../src/node.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { expectFailure, gguf, safetensors } from './_files.js';

const GIB = 2 ** 30;
let dir = '';
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'lmq-large-'));
});
afterEach(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

/** A file of `size` bytes that holds only `pieces`; false where the file system has no room for it, sparse as it is. */
async function sparse(path: string, size: number, pieces: [offset: number, bytes: Uint8Array][]): Promise<boolean> {
  const handle = await fs.open(path, 'w');
  try {
    await handle.truncate(size);
    for (const [offset, bytes] of pieces) await handle.write(bytes, 0, bytes.length, offset);
    const { blocks } = await handle.stat();
    if (blocks * 512 < size / 100) return true;
    console.log(`skipped: files are not sparse in ${tmpdir()}`);
  } catch (e) {
    console.log(`skipped: ${(e as Error).message}`);
  } finally {
    await handle.close();
  }
  await fs.rm(path);
  return false;
}

async function counted(path: string): Promise<{ source: ByteSource; read: () => number }> {
  const inner = await fileSource(path);
  let sum = 0;
  const read = (offset: number, length: number) => {
    sum += length;
    return inner.read(offset, length);
  };
  return { source: { ...inner, read }, read: () => sum };
}

const floats = Float32Array.of(1, -2, 0.5, 3e38);
const bytes = new Uint8Array(floats.buffer);
const mark = Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2);
const BIG = 5 * GIB;
const HEADER =
  `{"big":{"dtype":"U8","shape":[${BIG}],"data_offsets":[0,${BIG}]},` +
  `"far":{"dtype":"F32","shape":[4],"data_offsets":[${BIG},${BIG + 16}]}}`;
// an axis may have at most 2^32: 5 GiB as 5 x 2^30
const TALL = HEADER.replace(`[${BIG}]`, `[5,${GIB}]`);

describe('files beyond 4 GiB', () => {
  it('reads safetensors of 5 GiB by range', async (context) => {
    const path = join(dir, 'model.safetensors');
    const head = safetensors(TALL, 0);
    if (
      !(await sparse(path, head.length + BIG + 16, [
        [0, head],
        [head.length + 2 ** 32 - 4, mark],
        [head.length + BIG, bytes],
      ]))
    )
      context.skip();
    const { source, read } = await counted(path);
    const start = performance.now();
    const file = await openSafetensors(source);
    expect(performance.now() - start).toBeLessThan(1000); // milliseconds as a rule; this would not do for reading 5 GiB
    expect(read()).toBe(head.length);
    expect(await file.read('far')).toEqual({ kind: 'dense', shape: [1, 4], format: 'fp32', data: floats });
    expect(await file.readBytes('big', 2 ** 32 - 4, 2 ** 32 + 4)).toEqual(mark);
    expect(read()).toBe(head.length + 16 + 8);
    await file.close();
  });

  it('reads GGUF of 5 GiB by range', async (context) => {
    const path = join(dir, 'model.gguf');
    const types = { big: 24, far: 0 }; // I8, F32
    const { bytes: head, dataAt } = gguf({
      tensors: [
        { name: 'big', dims: [GIB, 5], type: types.big, offset: 0 },
        { name: 'far', dims: [4], type: types.far, offset: BIG },
      ],
    });
    if (
      !(await sparse(path, dataAt + BIG + 32, [
        [0, head],
        [dataAt + 2 ** 32 - 4, mark],
        [dataAt + BIG, bytes],
      ]))
    )
      context.skip();
    const { source, read } = await counted(path);
    const start = performance.now();
    const file = await openGguf(source);
    expect(performance.now() - start).toBeLessThan(1000);
    const opening = read();
    expect(opening).toBe(256 * 1024); // the first piece, which holds the header
    expect(await file.read('far')).toEqual({ kind: 'dense', shape: [1, 4], format: 'fp32', data: floats });
    expect(await file.readBytes('big', 2 ** 32 - 4, 2 ** 32 + 4)).toEqual(mark);
    expect(read()).toBe(opening + 16 + 8);
    await file.close();
  });

  it('reads shards of more than 4 GiB together', async (context) => {
    const total = 3 * (2 * GIB + 16);
    const map: Record<string, string> = {};
    for (let i = 0; i < 3; i++) {
      const head = safetensors(
        TALL.replaceAll(String(BIG + 16), String(2 * GIB + 16))
          .replaceAll(String(BIG), String(2 * GIB))
          .replace('[5,', '[2,')
          .replace('big', `big${i}`)
          .replace('far', `far${i}`),
        0,
      );
      const name = `model-0000${i + 1}-of-00003.safetensors`;
      const data = new Uint8Array(floats.map((x) => x - i).buffer);
      if (
        !(await sparse(join(dir, name), head.length + 2 * GIB + 16, [
          [0, head],
          [head.length + 2 * GIB, data],
        ]))
      )
        context.skip();
      map[`big${i}`] = map[`far${i}`] = name;
    }
    await fs.writeFile(join(dir, 'model.safetensors.index.json'), JSON.stringify({ metadata: { total_size: total }, weight_map: map }));
    const start = performance.now();
    const model = await openCheckpoint(dir);
    expect(performance.now() - start).toBeLessThan(1000);
    expect([...model.tensors.values()].reduce((n, t) => n + t.bytes, 0)).toBe(total);
    expect(await model.read('far2')).toMatchObject({ data: floats.map((x) => x - 2) });
    await model.close();
  });

  it('says when a tensor is larger than memory', async (context) => {
    const path = join(dir, 'model.safetensors');
    const size = 2 ** 43;
    const head = safetensors(`{"vast":{"dtype":"U8","shape":[4096,${2 ** 31}],"data_offsets":[0,${size}]}}`, 0);
    if (!(await sparse(path, head.length + size, [[0, head]]))) context.skip();
    const file = await openSafetensors(await fileSource(path));
    const e = await expectFailure(() => file.readBytes('vast'), 'file/limit', { file: path, offset: head.length });
    expect(e.facts.hint).toContain('in parts');
    expect(await file.readBytes('vast', size - 4)).toEqual(new Uint8Array(4));
    await file.close();
  });

  it.each([
    ['safetensors', writeSafetensors, 5],
    [
      'GGUF',
      (sink: Parameters<typeof writeGguf>[0], tensors: Parameters<typeof writeSafetensors>[1]) =>
        writeGguf(sink, { metadata: [], tensors }),
      5,
    ],
  ] as const)('writes %s with offsets beyond 4 GiB', async (kind, write, count) => {
    const data = new Uint8Array(GIB); // never touched: takes no memory
    const tensors = Array.from({ length: count }, (_, i) => ({
      name: `t${i}`,
      shape: [GIB],
      dtype: kind === 'GGUF' ? 'I8' : 'U8',
      bytes: () => data,
    }));
    tensors.push({ name: 't9', shape: [32], dtype: kind === 'GGUF' ? 'I8' : 'U8', bytes: () => new Uint8Array(32) });
    const head: Uint8Array[] = [];
    let size = 0;
    const sink = {
      async write(b: Uint8Array) {
        if (b.length < GIB) head.push(b.slice());
        size += b.length;
      },
    };
    expect(await write(sink, tensors)).toBe(size);
    const start = new Uint8Array(head.slice(0, -1).reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of head.slice(0, -1)) {
      start.set(p, at);
      at += p.length;
    }
    expect(size).toBe(start.length + 5 * GIB + 32);
    const asked: [number, number][] = [];
    const source: ByteSource = {
      name: 'large',
      size,
      async read(offset, length) {
        asked.push([offset, length]);
        const out = new Uint8Array(length);
        out.set(start.subarray(offset, offset + length));
        return out;
      },
      async close() {},
    };
    const file = kind === 'GGUF' ? await openGguf(source) : await openSafetensors(source);
    await file.readBytes('t9');
    expect(asked.at(-1)).toEqual([start.length + 5 * GIB, 32]);
  });
});
