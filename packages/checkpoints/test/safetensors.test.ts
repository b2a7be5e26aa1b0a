import { decode } from '@lmq/formats';
import { createRng, ndarray } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { ByteSource, TensorToWrite } from '../src/api.js';
import { openSafetensors } from '../src/safetensors.js';
import { toSafetensors, writeSafetensors } from '../src/safetensors-write.js';
import { blobSource, memorySink } from '../src/sources.js';
import { concat, expectFailure, failure, le, safetensors, source } from './_files.js';

const open = (bytes: Uint8Array) => openSafetensors(source(bytes));

function small(): TensorToWrite[] {
  return [
    { name: 'b', shape: [2, 3], dtype: 'BF16', bytes: () => Uint8Array.from({ length: 12 }, (_, i) => i) },
    { name: 'a', shape: [3], dtype: 'F32', bytes: () => new Uint8Array(Float32Array.of(1, -2, 0.5).buffer) },
    { name: 'ids', shape: [2], dtype: 'I64', bytes: () => new Uint8Array(BigInt64Array.of(-1n, 7n).buffer) },
    { name: 'scalar', shape: [], dtype: 'F16', bytes: () => Uint8Array.of(0, 0x3c) },
    { name: 'none', shape: [0, 4], dtype: 'F32', bytes: () => new Uint8Array(0) },
    { name: 'é"\n', shape: [1], dtype: 'U8', bytes: () => Uint8Array.of(9) },
  ];
}

async function write(tensors: TensorToWrite[], metadata?: Record<string, string>): Promise<Uint8Array> {
  const sink = memorySink();
  const bytes = await writeSafetensors(sink, tensors, metadata);
  expect(bytes).toBe(sink.bytes().length);
  return sink.bytes();
}

describe('writeSafetensors', () => {
  it('writes the bytes that the reference crate 0.8.0 writes', async () => {
    // python: safetensors.numpy.save of zeros of these dtypes
    const names: [string, string, number[], number][] = [
      ['b', 'U8', [3], 3],
      ['a', 'F32', [2], 8],
      ['c', 'I32', [2], 8],
      ['d', 'U32', [1], 4],
      ['e', 'F16', [1], 2],
      ['f', 'I64', [1], 8],
      ['g', 'F64', [1], 8],
      ['h', 'BOOL', [1], 1],
      ['i', 'I8', [1], 1],
      ['j', 'U16', [1], 2],
      ['k', 'I16', [1], 2],
      ['l', 'U64', [1], 8],
      ['é"\n\x7f', 'F32', [0, 4], 0],
    ];
    const header =
      '{"__metadata__":{"k":"v"},"l":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},"f":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},"g":{"dtype":"F64","shape":[1],"data_offsets":[16,24]},"a":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},"é\\"\\n\x7f":{"dtype":"F32","shape":[0,4],"data_offsets":[32,32]},"d":{"dtype":"U32","shape":[1],"data_offsets":[32,36]},"c":{"dtype":"I32","shape":[2],"data_offsets":[36,44]},"e":{"dtype":"F16","shape":[1],"data_offsets":[44,46]},"j":{"dtype":"U16","shape":[1],"data_offsets":[46,48]},"k":{"dtype":"I16","shape":[1],"data_offsets":[48,50]},"i":{"dtype":"I8","shape":[1],"data_offsets":[50,51]},"b":{"dtype":"U8","shape":[3],"data_offsets":[51,54]},"h":{"dtype":"BOOL","shape":[1],"data_offsets":[54,55]}}       ';
    const ours = await write(
      names.map(([name, dtype, shape, n]) => ({ name, dtype, shape, bytes: () => new Uint8Array(n) })),
      { k: 'v' },
    );
    expect(ours).toEqual(safetensors(header, 55));
  });

  it('sorts names by their UTF-8 bytes', async () => {
    const names = ['\u{1f600}', '\uffee', 'z'];
    const file = await open(await write(names.map((name) => ({ name, shape: [1], dtype: 'U8', bytes: () => new Uint8Array(1) }))));
    expect([...file.tensors.keys()]).toEqual(['z', '\uffee', '\u{1f600}']);
  });

  it('asks for one tensor at a time, once, in file order', async () => {
    const log: string[] = [];
    const tensors = small().map((t) => ({
      ...t,
      bytes: async () => {
        log.push(t.name);
        return t.bytes();
      },
    }));
    await write(tensors);
    expect(log).toEqual(['ids', 'a', 'none', 'b', 'scalar', 'é"\n']);
  });

  it.each<[string, TensorToWrite[], string]>([
    ['data of the wrong length', [{ name: 'x', shape: [2], dtype: 'F32', bytes: () => new Uint8Array(7) }], 'argument/value'],
    ['two tensors of one name', [small()[0]!, small()[0]!], 'argument/value'],
    ['an unknown dtype', [{ name: 'x', shape: [2], dtype: 'F33', bytes: () => new Uint8Array(8) }], 'argument/value'],
    ['a reserved name', [{ name: '__proto__', shape: [1], dtype: 'U8', bytes: () => new Uint8Array(1) }], 'argument/value'],
    ['the name __metadata__', [{ name: '__metadata__', shape: [1], dtype: 'U8', bytes: () => new Uint8Array(1) }], 'argument/value'],
    ['a negative axis', [{ name: 'x', shape: [-1], dtype: 'U8', bytes: () => new Uint8Array(0) }], 'argument/shape'],
    ['a shape beyond 2^53', [{ name: 'x', shape: [2 ** 31, 2 ** 31], dtype: 'U8', bytes: () => new Uint8Array(0) }], 'argument/shape'],
    ['half a byte', [{ name: 'x', shape: [1], dtype: 'F4', bytes: () => new Uint8Array(1) }], 'argument/shape'],
  ])('refuses %s', async (_, tensors, code) => {
    expect((await failure(() => write(tensors))).code).toBe(code);
  });
});

describe('openSafetensors', () => {
  it('reads back what was written', async () => {
    const file = await open(await write(small(), { format: 'pt', note: 'ü' }));
    expect(file.metadata).toEqual(
      new Map([
        ['format', 'pt'],
        ['note', 'ü'],
      ]),
    );
    for (const t of small()) {
      expect(file.tensors.get(t.name)).toMatchObject({ shape: t.shape, file: 'test file' });
      expect(file.dtype(t.name)).toBe(t.dtype);
      expect(await file.readBytes(t.name)).toEqual(t.bytes());
    }
    expect(await file.readBytes('b', 3, 5)).toEqual(Uint8Array.of(3, 4));
    expect(file.tensors.get('b')!.format).toBe('bf16');
    expect(file.tensors.get('ids')!.format).toBe('int64');
  });

  it('reads weights bit for bit, as matrices', async () => {
    const file = await open(await write(small()));
    expect(await file.read('a')).toEqual({ kind: 'dense', shape: [1, 3], format: 'fp32', data: Float32Array.of(1, -2, 0.5) });
    const b = await file.read('b');
    expect(b).toEqual({
      kind: 'dense',
      shape: [2, 3],
      format: 'bf16',
      data: Uint16Array.of(0x0100, 0x0302, 0x0504, 0x0706, 0x0908, 0x0b0a),
    });
    expect(await file.read('scalar')).toMatchObject({ shape: [1, 1], format: 'fp16', data: Uint16Array.of(0x3c00) });
    expect(await file.read('none')).toMatchObject({ shape: [0, 4] });
  });

  it('keeps NaN payloads', async () => {
    const data = new Uint8Array([1, 0, 0xa0, 0x7f, 2, 0, 0xc0, 0xff]); // a signalling and a quiet NaN
    const file = await open(await write([{ name: 'x', shape: [2], dtype: 'F32', bytes: () => data }]));
    const t = await file.read('x');
    if (t.kind !== 'dense') throw new Error('dense expected');
    expect(new Uint8Array(t.data.buffer, t.data.byteOffset, 8)).toEqual(data);
  });

  it('merges leading axes', async () => {
    const file = await open(await write([{ name: 'x', shape: [2, 3, 4], dtype: 'F32', bytes: () => new Uint8Array(96) }]));
    expect((await file.read('x')).shape).toEqual([6, 4]);
  });

  it('round-trips random dense tensors of each format', async () => {
    const rng = createRng(1);
    for (const format of ['fp32', 'fp16', 'bf16'] as const) {
      const data =
        format === 'fp32' ? Float32Array.from({ length: 15 }, rng.normal) : Uint16Array.from({ length: 15 }, () => rng.below(65536));
      const t = { kind: 'dense' as const, shape: [3, 5] as [number, number], format, data };
      const file = await open(await write([toSafetensors('w', t, [3, 5])]));
      expect(await file.read('w')).toEqual(t);
    }
  });

  it('reads a Blob', async () => {
    const bytes = await write(small());
    const file = await openSafetensors(blobSource(new Blob([bytes.slice()]), 'blob'));
    expect(decode(await file.read('a')).data).toEqual(Float32Array.of(1, -2, 0.5));
    await expectFailure(() => blobSource(new Blob([]), 'blob').read(0, 1), 'file/truncated', { file: 'blob', offset: 0 });
  });

  it('says what it cannot read', async () => {
    const file = await open(await write(small()));
    await expectFailure(() => file.read('ids'), 'model/unsupported', { tensor: 'ids', found: 'I64' });
    await expectFailure(() => file.read('nothing'), 'model/missing', { tensor: 'nothing' });
    await expectFailure(() => file.read('constructor'), 'model/missing', { tensor: 'constructor' });
    await expectFailure(() => file.readBytes('b', 0, 13), 'argument/value', { tensor: 'b' });
    const f64 = await open(safetensors('{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}', 8));
    await expectFailure(() => f64.read('x'), 'model/unsupported', { tensor: 'x', found: 'F64', offset: 9 });
  });

  it('takes an empty file of tensors, and trailing spaces in the header', async () => {
    expect((await open(safetensors('{}   ', 0))).tensors.size).toBe(0);
  });
});

const T = (begin: number, end: number, shape = `[${end - begin}]`, dtype = 'U8') =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

/** One bad file. A `^` in the header marks where the error must be; else `at` counts from the start of the data. */
interface Bad {
  header: string;
  data?: number;
  length?: number | bigint;
  at?: number;
  code?: 'file/format' | 'file/limit' | 'file/truncated';
  tensor?: string;
}

const BAD: Record<string, Bad> = {
  'overlapping tensors': { header: `{"a":${T(0, 4)},"b":${T(2, 6)}}`, data: 6, at: 2, tensor: 'b' },
  'the same span twice': { header: `{"a":${T(0, 4)},"b":${T(0, 4)}}`, data: 4, at: 0, tensor: 'b' },
  'shape 1000 x 1000 in 16 bytes': { header: `{^"a":${T(0, 16, '[1000,1000]')}}`, data: 16, tensor: 'a' },
  'a duplicate name': { header: `{"a":${T(0, 4)},^"a":${T(4, 8)}}`, data: 8 },
  'a duplicate name in disguise': { header: `{"a":${T(0, 4)},^"\\u0061":${T(4, 8)}}`, data: 8 },
  'a duplicate field': { header: '{"a":{"dtype":"U8",^"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', data: 1 },
  'the name __proto__': { header: `{^"__proto__":${T(0, 4)}}`, data: 4 },
  'an empty name': { header: `{^"":${T(0, 4)}}`, data: 4 },
  'a negative offset': { header: '{"a":{"dtype":"U8","shape":[4],"data_offsets":[^-4,0]}}', data: 4 },
  'a fractional offset': { header: '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,^1.0]}}', data: 1 },
  'a count that begins with 0': { header: '{"a":{"dtype":"U8","shape":[^01],"data_offsets":[0,1]}}', data: 1 },
  'end before begin': { header: `{^"a":${T(4, 0, '[4]')}}`, data: 4, tensor: 'a' },
  'bytes behind the last tensor': { header: `{"a":${T(0, 4)}}`, data: 5, at: 4 },
  'a hole': { header: `{"a":${T(0, 4)},"b":${T(5, 8)}}`, data: 8, at: 4, tensor: 'b' },
  'a hole at the start': { header: `{"a":${T(1, 4)}}`, data: 4, at: 0, tensor: 'a' },
  'missing data': { header: `{"a":${T(0, 4)}}`, data: 3, at: 3, tensor: 'a', code: 'file/truncated' },
  'a header length of 2^62': { header: '{}', length: 1n << 62n, at: -10, code: 'file/limit' },
  'a header length of 2^64 - 1': { header: '{}', length: (1n << 64n) - 1n, at: -10, code: 'file/limit' },
  'a header length over the limit': { header: '{}', length: 100_000_001, at: -10, code: 'file/limit' },
  'a header longer than the file': { header: '{}', length: 3, at: -10, code: 'file/truncated' },
  'a header that is cut': { header: '{"a":{"dtype":"U8",^', length: 19, data: 9 },
  'a header of 0 bytes': { header: '^' },
  'a header that begins with a space': { header: '^ {}' },
  'an array as header': { header: '^[]' },
  'something behind the header': { header: '{} ^x' },
  'an unknown dtype': { header: `{^"a":${T(0, 4, '[4]', 'Q8')}}`, data: 4, tensor: 'a' },
  'a prototype name as dtype': { header: `{^"a":${T(0, 4, '[4]', 'toString')}}`, data: 4, tensor: 'a' },
  'a missing field': { header: '{^"a":{"dtype":"U8","shape":[1]}}', tensor: 'a' },
  'an unknown field': { header: '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],^"x":1}}', data: 1, tensor: 'a' },
  'three offsets': { header: '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,^2]}}', data: 1, tensor: 'a' },
  'one offset': { header: '{^"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', data: 1, tensor: 'a' },
  'rank 9': { header: '{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,^1],"data_offsets":[0,1]}}', data: 1, tensor: 'a' },
  'an axis over 2^32': { header: `{^"a":${T(0, 0, '[4294967297,0]')}}`, code: 'file/limit', tensor: 'a' },
  'a product over 2^53': { header: `{^"a":${T(0, 0, '[4294967296,4294967296]')}}`, code: 'file/limit', tensor: 'a' },
  'a product that wraps in 64 bits': { header: `{^"a":${T(0, 0, '[4294967296,4294967296,4]', 'F32')}}`, code: 'file/limit', tensor: 'a' },
  'an integer over 2^53': { header: '{"a":{"dtype":"U8","shape":[^9007199254740993],"data_offsets":[0,1]}}', data: 1 },
  'metadata that is not text': { header: '{"__metadata__":{"a":^1}}' },
  'metadata twice': { header: '{"__metadata__":{},^"__metadata__":{}}' },
  'a sub-byte tensor that ends inside a byte': { header: `{^"a":${T(0, 1, '[3]', 'F4')}}`, data: 1, tensor: 'a' },
};

describe('hostile safetensors', () => {
  it.each(Object.entries(BAD))('refuses %s', async (_, bad) => {
    const mark = bad.header.indexOf('^');
    const header = bad.header.replace('^', '');
    const offset = bad.at === undefined ? 8 + mark : 8 + header.length + bad.at;
    expect(bad.at === undefined ? mark : 0).toBeGreaterThanOrEqual(0);
    const bytes = safetensors(header, bad.data ?? 0, bad.length);
    const facts = { offset, file: 'test file', op: 'openSafetensors', ...(bad.tensor ? { tensor: bad.tensor } : {}) };
    await expectFailure(() => open(bytes), bad.code ?? 'file/format', facts);
  });

  it('refuses files too short for a header', async () => {
    for (const n of [0, 7]) await expectFailure(() => open(new Uint8Array(n)), 'file/truncated', { offset: 0 });
  });

  it('refuses invalid UTF-8 in a name', async () => {
    await expectFailure(() => open(concat(safetensors('{"', 0, 6), Uint8Array.of(0xff, 0xfe, 0x22, 0x3a))), 'file/format', { offset: 10 });
  });

  it('escapes control characters of names in messages', async () => {
    const e = await failure(() => open(safetensors(`{"\\u001b[31m":${T(0, 4)}}`, 3)));
    expect(e.message).not.toContain('\u001b');
    expect(e.message).toContain('\\u001b[31m');
  });

  it('does not read a huge header before refusing it', async () => {
    const reads: number[] = [];
    const lying: ByteSource = {
      ...source(new Uint8Array(0)),
      size: 2 ** 50,
      async read(_, n) {
        reads.push(n);
        return le(100_000_001, 8);
      },
    };
    await expectFailure(() => openSafetensors(lying), 'file/limit');
    expect(reads).toEqual([8]);
  });

  it('takes time in proportion to the number of tensors', async () => {
    const headerOf = (n: number) =>
      safetensors(`{${Array.from({ length: n }, (_, i) => `"model.layers.${i}.w":${T(i, i + 1)}`).join(',')}}`, n);
    const time = async (bytes: Uint8Array) => {
      const times: number[] = [];
      for (let i = 0; i < 4; i++) {
        const start = process.cpuUsage(); // not the clock: other work on the machine does not count
        await open(bytes);
        const { user, system } = process.cpuUsage(start);
        times.push(user + system);
      }
      return Math.min(...times);
    };
    const [small, large] = [await time(headerOf(5000)), await time(headerOf(40_000))];
    expect(large / small).toBeLessThan(8 * 4); // eight times the tensors; were it quadratic, 64 times the time
  });

  it('gives only LmqError when cut at any byte', async () => {
    const bytes = await write(small(), { format: 'pt' });
    for (let n = 0; n < bytes.length; n++) {
      const e = await failure(() => open(bytes.slice(0, n)));
      expect(['file/truncated', 'file/format']).toContain(e.code);
    }
  });

  it('refuses flipped files, or reads them as they are (3000 seeded cases)', async () => {
    const clean = await write(small(), { format: 'pt' });
    const rng = createRng(7);
    let accepted = 0;
    for (let i = 0; i < 3000; i++) {
      const bytes = clean.slice();
      for (let flips = 1 + rng.below(3); flips > 0; flips--) bytes[rng.below(bytes.length)]! ^= 1 << rng.below(8);
      let file: Awaited<ReturnType<typeof open>>;
      try {
        file = await open(bytes);
      } catch (e) {
        expect((e as { name: string }).name).toBe('LmqError');
        continue;
      }
      accepted++;
      // the tensors' bytes are exactly the data section, and writing what was read gives the same model again
      const rewritten: TensorToWrite[] = [];
      let covered = 0;
      for (const t of file.tensors.values()) {
        covered += t.bytes;
        rewritten.push({ name: t.name, shape: t.shape, dtype: file.dtype(t.name), bytes: () => file.readBytes(t.name) });
      }
      const header = Number(new DataView(bytes.buffer).getBigUint64(0, true));
      expect(covered).toBe(bytes.length - 8 - header);
      const again = await open(await write(rewritten, Object.fromEntries(file.metadata) as Record<string, string>));
      expect(again.metadata).toEqual(file.metadata);
      for (const t of file.tensors.values()) {
        expect(again.tensors.get(t.name)).toEqual(t);
        expect(await again.readBytes(t.name)).toEqual(await file.readBytes(t.name));
      }
    }
    expect(accepted).toBeGreaterThan(100); // flips in the data are not damage a reader can see
  });
});

describe('toSafetensors', () => {
  it('refuses a shape of another size', async () => {
    const t = { kind: 'dense' as const, shape: [2, 2] as [number, number], format: 'fp32' as const, data: new Float32Array(4) };
    await expectFailure(() => toSafetensors('w', t, [5]), 'argument/shape', { tensor: 'w' });
    expect(toSafetensors('w', t).shape).toEqual([2, 2]);
    expect(ndarray(t.data, [4]).get(0)).toBe(0);
  });
});
