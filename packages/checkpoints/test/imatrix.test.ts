import { createRng, isLmqError, type Rng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { TensorToWrite } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { writeGguf } from '../src/gguf-write.js';
import { type Imatrix, importances, readImatrix } from '../src/imatrix.js';
import { writeImatrix, writeLegacyImatrix } from '../src/imatrix-write.js';
import { memorySink } from '../src/sources.js';
import { expectFailure, source } from './_files.js';
import { datFile, hostileDat, randomEntries } from './_mutate-imatrix.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 5000);

const IMATRIX: Imatrix = {
  entries: new Map([
    ['blk.1.attn_q.weight', { sums: Float32Array.of(4, 8, 0, 1), counts: Float32Array.of(4) }],
    ['blk.0.ffn_up_exps.weight', { sums: Float32Array.of(2, 4, 0, 0, 9, 3), counts: Float32Array.of(2, 0, 3) }],
  ]),
  datasets: ['wiki.txt'],
  chunks: 3,
  chunkSize: 512,
};

const written = async (write: typeof writeImatrix, imatrix = IMATRIX) => {
  const sink = memorySink();
  expect(await write(sink, imatrix)).toBe(sink.bytes().length);
  return sink.bytes();
};

describe('importance matrices', () => {
  it('as GGUF: read back as written, in the form that llama.cpp writes', async () => {
    const bytes = await written(writeImatrix);
    const back = await readImatrix(source(bytes));
    expect(back).toEqual({ ...IMATRIX, entries: new Map([...IMATRIX.entries].reverse()) }); // by name
    const file = await openGguf(source(bytes));
    expect([...file.tensors.values()].map((t) => [t.name, t.shape])).toEqual([
      ['blk.0.ffn_up_exps.weight.in_sum2', [3, 2]],
      ['blk.0.ffn_up_exps.weight.counts', [3, 1]],
      ['blk.1.attn_q.weight.in_sum2', [1, 4]],
      ['blk.1.attn_q.weight.counts', [1, 1]],
    ]);
    expect([...file.metadata]).toEqual([
      ['general.type', 'imatrix'],
      ['imatrix.datasets', ['wiki.txt']],
      ['imatrix.chunk_count', 3],
      ['imatrix.chunk_size', 512],
    ]);
  });

  it('as .dat: means times calls, 1 for experts that no token reached', async () => {
    const back = await readImatrix(source(await written(writeLegacyImatrix)));
    expect(back.datasets).toEqual(['wiki.txt']);
    expect(back.chunks).toBe(3);
    expect(back.entries.get('blk.1.attn_q.weight')).toEqual({ sums: Float32Array.of(3, 6, 0, 0.75), counts: Float32Array.of(3) });
    expect([...importances('x', back.entries.get('blk.0.ffn_up_exps.weight')!, 2, 3)]).toEqual([1, 2, 1, 1, 3, 1]);
  });

  it('.dat files of the description, with and without the tail that newer versions add', async () => {
    const rng = createRng(4);
    for (let n = 0; n < 200; n++) {
      const entries = randomEntries(rng);
      const tail = rng.below(3);
      const back = await readImatrix(source(datFile(entries, tail)));
      expect([...back.entries.keys()]).toEqual(entries.map((e) => e.name));
      for (const { name, calls, values } of entries) {
        expect(back.entries.get(name)).toEqual({ sums: values, counts: Float32Array.of(Math.max(calls, 1)) });
      }
      expect(back.chunks).toBe(tail ? 7 : undefined);
      expect(back.datasets).toEqual(tail > 1 ? ['wiki.train.raw'] : []);
    }
  });

  it('give mean squares, alike where nothing was seen', async () => {
    expect([...importances('q', IMATRIX.entries.get('blk.1.attn_q.weight')!, 4, 1)]).toEqual([1, 2, 0, 0.25]);
    expect([...importances('up', IMATRIX.entries.get('blk.0.ffn_up_exps.weight')!, 2, 3)]).toEqual([1, 2, 1, 1, 3, 1]);
    expect([...importances('x', { sums: Float32Array.of(0, 0), counts: Float32Array.of(5) }, 2, 1)]).toEqual([1, 1]); // no input was ever there
    expect([...importances('x', { sums: Float32Array.of(2, 4, 6, 8), counts: Float32Array.of(2) }, 2, 2)]).toEqual([1, 2, 3, 4]); // a .dat of experts
    await expectFailure(async () => importances('q', IMATRIX.entries.get('blk.1.attn_q.weight')!, 5, 1), 'argument/value');
    await expectFailure(async () => importances('up', IMATRIX.entries.get('blk.0.ffn_up_exps.weight')!, 3, 2), 'argument/value');
  });

  const f32 = (name: string, shape: number[], ...values: number[]): TensorToWrite => ({
    name,
    shape,
    dtype: 'F32',
    bytes: () => new Uint8Array(Float32Array.from(values).buffer),
  });
  const read = async (...tensors: TensorToWrite[]) => {
    const sink = memorySink();
    await writeGguf(sink, { metadata: [{ key: 'imatrix.datasets', type: 'u32', value: 5 }], tensors });
    return readImatrix(source(sink.bytes()));
  };

  it('ignore what they do not know in a GGUF file', async () => {
    const { entries, ...rest } = await read(
      f32('a.in_sum', [1, 2], -1, 1),
      f32('a.counts', [1, 1], 2),
      f32('a.in_sum2', [1, 2], 1, 3),
      f32('other', [1], 1),
    );
    expect([...entries]).toEqual([['a', { sums: Float32Array.of(1, 3), counts: Float32Array.of(2) }]]);
    expect(rest).toEqual({ datasets: [] });
  });

  it.each<[string, TensorToWrite[]]>([
    ['nothing', []],
    ['sums without counts', [f32('a.in_sum2', [1, 2], 1, 2)]],
    ['counts without sums', [f32('a.counts', [1, 1], 2)]],
    ['sums that are not whole runs', [f32('a.in_sum2', [1, 3], 1, 2, 3), f32('a.counts', [2, 1], 1, 1)]],
    ['no counts', [f32('a.in_sum2', [1, 1], 1), f32('a.counts', [0, 1])]],
    ['a negative sum', [f32('a.in_sum2', [1, 1], -1), f32('a.counts', [1, 1], 1)]],
    ['NaN', [f32('a.in_sum2', [1, 1], 1), f32('a.counts', [1, 1], Number.NaN)]],
    ['another type', [{ ...f32('a.in_sum2', [1, 2], 1), dtype: 'F16' }, f32('a.counts', [1, 1], 1)]],
  ])('refuse a GGUF file with %s', async (_, tensors) => {
    await expectFailure(() => read(...tensors), 'file/format');
  });

  it(`in ${CASES} damaged files end in an error that says where, or in sums that can be used`, async () => {
    const ends = { read: 0, refused: 0 };
    const end = async (bytes: Uint8Array) => {
      try {
        const { entries } = await readImatrix(source(bytes));
        for (const { sums, counts } of entries.values()) {
          expect(sums.length > 0 && counts.length > 0 && sums.length % counts.length === 0).toBe(true);
          expect([...sums, ...counts].every((v) => v >= 0 && v < Number.POSITIVE_INFINITY)).toBe(true);
        }
        ends.read++;
      } catch (e) {
        if (!isLmqError(e) || !e.code.startsWith('file/')) throw e;
        expect(e.facts.file).toBe('test file');
        ends.refused++;
      }
    };
    const rng: Rng = createRng(11);
    const gguf = await written(writeImatrix);
    for (let n = 0; n < CASES; n++) {
      if (rng.below(4)) await end(hostileDat(rng));
      else {
        const bytes = gguf.slice(0, rng.below(3) ? gguf.length : 1 + rng.below(gguf.length));
        for (let k = rng.below(3); k >= 0; k--) bytes[rng.below(bytes.length)] = rng.below(256);
        await end(bytes);
      }
    }
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(CASES / 20);
  });
});
