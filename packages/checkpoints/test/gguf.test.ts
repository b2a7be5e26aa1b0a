import { BLOCK_TYPES } from '@lmq/formats';
import { createRng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { GgufEntry, TensorToWrite } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { GGUF_TYPES } from '../src/gguf-types.js';
import { writeGguf } from '../src/gguf-write.js';
import { memorySink } from '../src/sources.js';
import { concat, expectFailure, failure, gguf, kv, le, type RawGguf, type RawTensor, source, str } from './_files.js';

const open = (bytes: Uint8Array) => openGguf(source(bytes));

const METADATA: GgufEntry[] = [
  { key: 'general.architecture', type: 'string', value: 'llama' },
  { key: 'a.u8', type: 'u8', value: 255 },
  { key: 'a.i8', type: 'i8', value: -128 },
  { key: 'a.u16', type: 'u16', value: 65535 },
  { key: 'a.i16', type: 'i16', value: -32768 },
  { key: 'a.u32', type: 'u32', value: 4294967295 },
  { key: 'a.i32', type: 'i32', value: -2147483648 },
  { key: 'a.f32', type: 'f32', value: 1.5 },
  { key: 'a.bool', type: 'bool', value: true },
  { key: 'a.u64', type: 'u64', value: 18446744073709551615n },
  { key: 'a.u64.small', type: 'u64', value: 9007199254740991 },
  { key: 'a.i64', type: 'i64', value: -9223372036854775808n },
  { key: 'a.f64', type: 'f64', value: 0.1 },
  { key: 'b.strings', type: 'string[]', value: ['', 'Ġ語', '\ufeffx'] },
  { key: 'b.f32', type: 'f32[]', value: Float32Array.of(1, -0.25) },
  { key: 'b.i32', type: 'i32[]', value: Int32Array.of(1, -2, 3) },
  { key: 'b.u64', type: 'u64[]', value: [1, 18446744073709551615n] },
  { key: 'b.bool', type: 'bool[]', value: [true, false] },
  { key: 'b.empty', type: 'u32[]', value: new Uint32Array(0) },
  {
    key: 'b.nested',
    type: 'array[]',
    value: [
      { type: 'u8[]', value: Uint8Array.of(1, 2) },
      { type: 'string[]', value: ['x'] },
    ],
  },
];

function tensors(): TensorToWrite[] {
  return [
    { name: 'token_embd.weight', shape: [3, 64], dtype: 'Q4_0', bytes: () => Uint8Array.from({ length: 108 }, (_, i) => i) },
    { name: 'norm', shape: [5], dtype: 'F32', bytes: () => new Uint8Array(Float32Array.of(1, 2, 3, 4, -5).buffer) },
    { name: 'half', shape: [2, 2], dtype: 'F16', bytes: () => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) },
    { name: 'experts', shape: [2, 3, 32], dtype: 'Q8_0', bytes: () => Uint8Array.from({ length: 204 }, (_, i) => 255 - i) },
    { name: 'brain', shape: [1, 2], dtype: 'BF16', bytes: () => Uint8Array.of(0x80, 0x3f, 0, 0xc0) },
    { name: 'k', shape: [1, 256], dtype: 'Q8_K', bytes: () => new Uint8Array(292) },
    { name: 'none', shape: [0, 32], dtype: 'Q8_0', bytes: () => new Uint8Array(0) },
    { name: 'scalar', shape: [], dtype: 'F32', bytes: () => new Uint8Array(4) },
  ];
}

async function write(metadata: GgufEntry[], list: TensorToWrite[]): Promise<Uint8Array> {
  const sink = memorySink();
  const bytes = await writeGguf(sink, { metadata, tensors: list });
  expect(sink.bytes().length).toBe(bytes);
  return sink.bytes();
}

describe('writeGguf and openGguf', () => {
  it('writes the bytes that the format says', async () => {
    const ours = await write(
      [{ key: 'general.name', type: 'string', value: 'x' }],
      [{ name: 'w', shape: [1, 2], dtype: 'F32', bytes: () => new Uint8Array(Float32Array.of(1, 2).buffer) }],
    );
    const head = concat(
      Uint8Array.of(0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0),
      le(1, 8),
      le(1, 8),
      kv('general.name', 8, str('x')),
      str('w'),
      le(2, 4),
      le(2, 8), // fastest axis first
      le(1, 8),
      le(0, 4),
      le(0, 8),
    );
    const pad = (n: number) => new Uint8Array(Math.ceil(n / 32) * 32 - n);
    expect(ours).toEqual(concat(head, pad(head.length), Uint8Array.of(0, 0, 0x80, 0x3f, 0, 0, 0, 0x40), pad(8)));
  });

  it('round-trips every value type and tensor', async () => {
    const file = await open(await write(METADATA, tensors()));
    expect(file).toMatchObject({ format: 'gguf', version: 3, alignment: 32 });
    expect(file.entries).toEqual(METADATA);
    expect(file.metadata.get('a.u64')).toBe(18446744073709551615n);
    expect(file.metadata.get('a.u64.small')).toBe(9007199254740991);
    expect(file.metadata.get('b.nested')).toEqual([Uint8Array.of(1, 2), ['x']]);
    for (const t of tensors()) {
      expect(file.tensors.get(t.name)!.shape).toEqual(t.shape);
      expect(await file.readBytes(t.name)).toEqual(t.bytes());
    }
    expect([...file.tensors.values()].map((t) => t.format)).toEqual(['Q4_0', 'fp32', 'fp16', 'Q8_0', 'bf16', 'Q8_K', 'Q8_0', 'fp32']);
  });

  it('reads weights verbatim, as matrices', async () => {
    const file = await open(await write([], tensors()));
    expect(await file.read('token_embd.weight')).toEqual({ kind: 'blocks', shape: [3, 64], type: 'Q4_0', data: tensors()[0]!.bytes() });
    expect(await file.read('norm')).toEqual({ kind: 'dense', shape: [1, 5], format: 'fp32', data: Float32Array.of(1, 2, 3, 4, -5) });
    expect(await file.read('half')).toEqual({
      kind: 'dense',
      shape: [2, 2],
      format: 'fp16',
      data: Uint16Array.of(0x0201, 0x0403, 0x0605, 0x0807),
    });
    expect(await file.read('experts')).toMatchObject({ kind: 'blocks', shape: [6, 32], type: 'Q8_0' });
    expect(await file.read('brain')).toEqual({ kind: 'dense', shape: [1, 2], format: 'bf16', data: Uint16Array.of(0x3f80, 0xc000) });
    await expectFailure(() => file.read('k'), 'model/unsupported', { tensor: 'k', found: 'Q8_K' });
    await expectFailure(() => file.read('nothing'), 'model/missing', { tensor: 'nothing' });
  });

  it.each(Object.entries(BLOCK_TYPES))('reads %s blocks verbatim', async (type, { blockSize, blockBytes }) => {
    const bytes = Uint8Array.from({ length: 6 * blockBytes }, (_, i) => i);
    const file = await open(await write([], [{ name: 'w', shape: [3, 2 * blockSize], dtype: type, bytes: () => bytes }]));
    expect(file.tensors.get('w')).toMatchObject({ format: type, bytes: bytes.length });
    expect(await file.read('w')).toEqual({ kind: 'blocks', shape: [3, 2 * blockSize], type, data: bytes });
  });

  it('honours general.alignment', async () => {
    const file = await open(await write([{ key: 'general.alignment', type: 'u32', value: 256 }], tensors()));
    expect(file.alignment).toBe(256);
    expect(await file.readBytes('experts')).toEqual(tensors()[3]!.bytes());
  });

  it('asks for one tensor at a time, once, in order', async () => {
    const log: string[] = [];
    await write(
      [],
      tensors().map((t) => ({
        ...t,
        bytes: () => {
          log.push(t.name);
          return t.bytes();
        },
      })),
    );
    expect(log).toEqual(tensors().map((t) => t.name));
  });

  it('reads headers larger than the first piece', async () => {
    const tokens = Array.from({ length: 60_000 }, (_, i) => `token ${i} é`);
    const bytes = await write([{ key: 'tokens', type: 'string[]', value: tokens }], tensors());
    expect(bytes.length).toBeGreaterThan(1_000_000);
    const reads: number[] = [];
    const inner = source(bytes);
    const file = await openGguf({
      ...inner,
      read: (at, n) => {
        reads.push(n);
        return inner.read(at, n);
      },
    });
    expect(file.metadata.get('tokens')).toEqual(tokens);
    expect(reads.length).toBeLessThan(6);
  });

  it('reads versions 1 and 2', async () => {
    const v2 = gguf({ version: 2, keys: [kv('a', 4, le(7, 4))] });
    expect((await open(v2.bytes)).metadata.get('a')).toBe(7);
    const name = Uint8Array.of(1, 0, 0, 0, 0x77);
    const head = concat(
      Uint8Array.of(0x47, 0x47, 0x55, 0x46, 1, 0, 0, 0),
      le(1, 4),
      le(1, 4),
      concat(le(1, 4), Uint8Array.of(0x61), le(9, 4), le(8, 4), le(2, 4), le(1, 4), Uint8Array.of(0x78), le(0, 4)), // a: ["x", ""]
      concat(name, le(1, 4), le(2, 4), le(0, 4), le(0, 8)),
    );
    const bytes = concat(
      head,
      new Uint8Array(Math.ceil(head.length / 32) * 32 - head.length),
      new Uint8Array(Float32Array.of(3, 4).buffer),
    );
    const v1 = await open(bytes);
    expect(v1.version).toBe(1);
    expect(v1.metadata.get('a')).toEqual(['x', '']);
    expect(await v1.read('w')).toEqual({ kind: 'dense', shape: [1, 2], format: 'fp32', data: Float32Array.of(3, 4) });
  });

  it.each<[string, GgufEntry[], TensorToWrite[], string]>([
    ['a key twice', [METADATA[1]!, METADATA[1]!], [], 'argument/value'],
    ['a key with a space', [{ key: 'a b', type: 'u8', value: 1 }], [], 'argument/value'],
    ['a reserved key', [{ key: '__proto__', type: 'u8', value: 1 }], [], 'argument/value'],
    ['a value out of range', [{ key: 'a', type: 'u8', value: 256 }], [], 'argument/value'],
    ['a fraction as integer', [{ key: 'a', type: 'u32', value: 1.5 }], [], 'argument/value'],
    ['text as number', [{ key: 'a', type: 'f32', value: '1' }], [], 'argument/value'],
    ['an unknown type', [{ key: 'a', type: 'u128' as 'u64', value: 1 }], [], 'argument/value'],
    ['a bad item', [{ key: 'a', type: 'string[]', value: ['x', 1] }], [], 'argument/value'],
    ['alignment 3', [{ key: 'general.alignment', type: 'u32', value: 3 }], [], 'argument/value'],
    ['alignment of another type', [{ key: 'general.alignment', type: 'u64', value: 32 }], [], 'argument/value'],
    ['two tensors of one name', [], [tensors()[1]!, tensors()[1]!], 'argument/value'],
    ['a name of 64 bytes', [], [{ ...tensors()[1]!, name: 'é'.repeat(32) }], 'argument/value'],
    ['an unknown tensor type', [], [{ ...tensors()[1]!, dtype: 'Q9' }], 'argument/value'],
    ['rank 5', [], [{ ...tensors()[1]!, shape: [1, 1, 1, 1, 5] }], 'argument/shape'],
    ['rows that are not whole blocks', [], [{ ...tensors()[0]!, shape: [64, 3] }], 'export/unsupported'],
    ['data of the wrong length', [], [{ ...tensors()[1]!, bytes: () => new Uint8Array(19) }], 'argument/value'],
  ])('refuses to write %s', async (_, metadata, list, code) => {
    expect((await failure(() => write(metadata, list))).code).toBe(code);
  });
});

const f32 = (name: string, dims: (number | bigint)[], offset: number | bigint = 0, type = 0): RawTensor => ({ name, dims, type, offset });
const u32 = (key: string, value: number) => kv(key, 4, le(value, 4));
const nested = (depth: number): Uint8Array => (depth === 0 ? concat(le(4, 4), le(0, 8)) : concat(le(9, 4), le(1, 8), nested(depth - 1)));

/** `at`: byte of the error; `key n`, `tensor n`, `data` are starts of entries, plus a number. */
interface Bad extends RawGguf {
  at: number | readonly ['key' | 'tensor' | 'data', number, number];
  code?: 'file/format' | 'file/limit' | 'file/truncated';
}

// The cases of ggml's tests/test-gguf.cpp and of design C1, by hand.
const BAD: Record<string, Bad> = {
  'a wrong magic': { magic: 'GGML', at: 0 },
  'version 0': { version: 0, at: 4 },
  'version 4': { version: 4, at: 4 },
  'a big-endian version': { version: 0x03000000, at: 4 },
  'more keys than bytes': { keyCount: 10, at: 24, code: 'file/truncated' },
  '2^63 keys': { keyCount: 1n << 63n, at: 16, code: 'file/limit' },
  'more tensors than bytes': { tensorCount: 1000, at: 24, code: 'file/truncated' },
  '2^64 - 1 tensors': { tensorCount: (1n << 64n) - 1n, at: 8, code: 'file/limit' },
  'an empty key': { keys: [u32('', 1)], at: ['key', 0, 0] },
  'a key with a control character': { keys: [u32('a\u0007', 1)], at: ['key', 0, 0] },
  'a key longer than 65535': { keys: [u32('a'.repeat(65536), 1)], at: ['key', 0, 0], code: 'file/limit' },
  'a key longer than the file': { keys: [concat(le(60000, 8), new Uint8Array(20))], at: ['key', 0, 8], code: 'file/truncated' },
  'a duplicate key': { keys: [u32('a', 1), u32('b', 1), u32('a', 2)], at: ['key', 2, 0] },
  'the key __proto__': { keys: [kv('__proto__', 9, concat(le(4, 4), le(0, 8)))], at: ['key', 0, 0] },
  'an unknown value type': { keys: [kv('a', 13, le(0, 8))], at: ['key', 0, 9] },
  'a string longer than the file': {
    keys: [kv('a', 8, concat(le(1000, 8), new Uint8Array(9)))],
    at: ['key', 0, 21],
    code: 'file/truncated',
  },
  'a string of 2^40': { keys: [kv('a', 8, le(1n << 40n, 8))], at: ['key', 0, 13], code: 'file/limit' },
  'a string that is not UTF-8': { keys: [kv('a', 8, concat(le(2, 8), Uint8Array.of(0xc3, 0x28)))], at: ['key', 0, 21] },
  'a bool of 2': { keys: [kv('a', 7, Uint8Array.of(2))], at: ['key', 0, 13] },
  'an array of 2^40': { keys: [kv('a', 9, concat(le(4, 4), le(1n << 40n, 8)))], at: ['key', 0, 13], code: 'file/limit' },
  'an array longer than the file': { keys: [kv('a', 9, concat(le(0, 4), le(1_000_000, 8)))], at: ['key', 0, 25], code: 'file/truncated' },
  'an array of strings longer than the file': {
    keys: [kv('a', 9, concat(le(8, 4), le(100, 8)))],
    at: ['key', 0, 25],
    code: 'file/truncated',
  },
  'an array of an unknown type': { keys: [kv('a', 9, concat(le(99, 4), le(1, 8), le(0, 8)))], at: ['key', 0, 13] },
  'arrays nested five deep': { keys: [kv('a', 9, nested(4))], at: ['key', 0, 13 + 3 * 12], code: 'file/limit' },
  'alignment 3': { keys: [u32('general.alignment', 3)], at: ['key', 0, 0] },
  'alignment 0': { keys: [u32('general.alignment', 0)], at: ['key', 0, 0] },
  'alignment 4': { keys: [u32('general.alignment', 4)], at: ['key', 0, 0] },
  'alignment 2^31': { keys: [u32('general.alignment', 2 ** 31)], at: ['key', 0, 0] },
  'alignment of type u64': { keys: [kv('general.alignment', 10, le(32, 8))], at: ['key', 0, 0] },
  'a duplicate tensor name': { tensors: [f32('w', [8]), f32('w', [8], 32)], data: 64, at: ['tensor', 1, 0] },
  'an empty tensor name': { tensors: [f32('', [8])], data: 32, at: ['tensor', 0, 0] },
  'the tensor name __proto__': { tensors: [f32('__proto__', [8])], data: 32, at: ['tensor', 0, 0] },
  'a tensor name of 64 bytes': { tensors: [f32('w'.repeat(64), [8])], data: 32, at: ['tensor', 0, 0], code: 'file/limit' },
  'five axes': { tensors: [f32('w', [1, 1, 1, 1, 8])], data: 32, at: ['tensor', 0, 0] },
  'an axis over 2^32': { tensors: [f32('w', [1n << 40n])], data: 32, at: ['tensor', 0, 0], code: 'file/limit' },
  'a negative axis': { tensors: [f32('w', [-1])], data: 32, at: ['tensor', 0, 0], code: 'file/limit' },
  'a product over 2^53': { tensors: [f32('w', [1 << 30, 1 << 30])], data: 32, at: ['tensor', 0, 0], code: 'file/limit' },
  'a product that wraps to 0': { tensors: [f32('w', [1n << 32n, 1n << 32n])], data: 32, at: ['tensor', 0, 0], code: 'file/limit' },
  'an unknown tensor type': { tensors: [f32('w', [8], 0, 4)], data: 32, at: ['tensor', 0, 0] },
  'a row that is not whole blocks': { tensors: [f32('w', [33], 0, 2)], data: 32, at: ['tensor', 0, 0] },
  'offset 2^60': { tensors: [f32('w', [8], 1n << 60n)], data: 32, at: ['tensor', 0, 9 + 4 + 8 + 4] },
  'offset 32 where 0 is due': { tensors: [f32('w', [8], 32)], data: 64, at: ['tensor', 0, 25] },
  'overlapping tensors': { tensors: [f32('a', [8], 0), f32('b', [8], 0)], data: 32, at: ['tensor', 1, 25] },
  'a hole between tensors': { tensors: [f32('a', [8], 0), f32('b', [8], 64)], data: 96, at: ['tensor', 1, 25] },
  'an unpadded offset': { tensors: [f32('a', [2], 0), f32('b', [8], 8)], data: 64, at: ['tensor', 1, 25] },
  'data that ends early': { tensors: [f32('a', [8], 0), f32('b', [8], 32)], data: 63, at: ['data', 0, 63], code: 'file/truncated' },
  'no data at all': { tensors: [f32('a', [8], 0)], data: 0, at: ['data', 0, 0], code: 'file/truncated' },
  'a tensor of exabytes': { tensors: [f32('a', [1 << 26, 1 << 20], 0)], data: 32, at: ['data', 0, 32], code: 'file/truncated' },
  'bytes behind the last tensor': { tensors: [f32('a', [8], 0)], data: 33, at: ['data', 0, 32] },
};

describe('hostile GGUF', () => {
  it.each(Object.entries(BAD))('refuses %s', async (_, bad) => {
    const { bytes, keyAt, tensorAt, dataAt } = gguf(bad);
    const { at } = bad;
    const offset = typeof at === 'number' ? at : { key: keyAt[at[1]]!, tensor: tensorAt[at[1]]!, data: dataAt }[at[0]] + at[2];
    await expectFailure(() => open(bytes), bad.code ?? 'file/format', { offset, file: 'test file', op: 'openGguf' });
  });

  it('names the tensor', async () => {
    const { bytes } = gguf({ tensors: [f32('bad.weight', [33], 0, 2)], data: 32 });
    await expectFailure(() => open(bytes), 'file/format', { tensor: 'bad.weight', found: 33 });
  });

  it('takes a last tensor without padding, which some writers leave out', async () => {
    const { bytes } = gguf({ tensors: [f32('a', [2], 0)], data: 8 });
    expect((await open(bytes)).tensors.size).toBe(1);
    expect((await open(gguf({}).bytes)).tensors.size).toBe(0);
    const empty = gguf({ tensors: [f32('a', [0], 0)] });
    const file = await open(empty.bytes.slice(0, empty.tensorAt[0]! + 9 + 4 + 8 + 4 + 8)); // ends before its data section begins
    expect((await file.read('a')).shape).toEqual([1, 0]);
    expect(await file.readBytes('a')).toEqual(new Uint8Array(0));
  });

  it('keeps signalling NaNs in arrays', async () => {
    const { bytes } = gguf({ keys: [kv('a', 9, concat(le(6, 4), le(2, 8), le(0xff9328fc, 4), le(0x7fa00001, 4)))] });
    const again = await write([...(await open(bytes)).entries], []);
    expect(again).toEqual(bytes);
  });

  it('bounds arrays inside arrays', async () => {
    const many = 65_537;
    const items = new Uint8Array(12 * many); // each: type u8, length 0
    const { bytes, keyAt } = gguf({ keys: [kv('a', 9, concat(le(9, 4), le(many, 8), items))] });
    await expectFailure(() => open(bytes), 'file/limit', { offset: keyAt[0]! + 13 });
  });

  it('takes a lower bound on the header', async () => {
    const { bytes } = gguf({ keys: [kv('a', 8, str('x'.repeat(1000)))] });
    expect((await openGguf(source(bytes), { maxHeaderBytes: bytes.length })).metadata.size).toBe(1);
    await expectFailure(() => openGguf(source(bytes), { maxHeaderBytes: 500 }), 'file/limit', { file: 'test file' });
  });

  it('reads parts of tensors', async () => {
    const file = await open(await write([], tensors()));
    const { data } = (await file.read('experts')) as { data: Uint8Array };
    expect(await file.readBytes('experts', 34, 68)).toEqual(data.slice(34, 68));
    await expectFailure(() => file.readBytes('experts', 34, 205), 'argument/value', { tensor: 'experts' });
    const { shape } = await file.read('experts');
    expect(await file.readRows('experts', 1, 3)).toEqual({ kind: 'blocks', shape: [2, shape[1]], type: 'Q8_0', data: data.slice(34, 102) });
    await expectFailure(() => file.readRows('experts', 1, shape[0] + 1), 'argument/value', { tensor: 'experts' });
  });

  it('cuts long keys in messages', async () => {
    const { bytes } = gguf({ keys: [kv('k'.repeat(60_000), 8, le(1000, 8))] });
    expect((await failure(() => open(bytes))).message.length).toBeLessThan(400);
  });

  it('refuses short files', async () => {
    for (const n of [0, 3, 4, 8, 23]) await expectFailure(() => open(gguf({}).bytes.slice(0, n)), 'file/truncated');
  });

  it('gives only LmqError when cut at any byte', async () => {
    const bytes = await write(METADATA, tensors());
    const padding = 32 - 4; // behind the last tensor, of 4 bytes
    for (let n = 0; n < bytes.length - padding; n++) {
      const e = await failure(() => open(bytes.slice(0, n)));
      expect(e.code).toBe('file/truncated');
    }
  });

  it('refuses flipped files, or reads them as they are (3000 seeded cases)', async () => {
    const clean = await write(METADATA, tensors());
    const dataAt = clean.length - tensors().reduce((n, t) => n + Math.ceil((t.bytes() as Uint8Array).length / 32) * 32, 0);
    const rng = createRng(11);
    let accepted = 0;
    for (let i = 0; i < 3000; i++) {
      const bytes = clean.slice();
      // two thirds of the flips hit the header
      for (let flips = 1 + rng.below(2); flips > 0; flips--) bytes[rng.below(rng.below(3) ? dataAt : bytes.length)]! ^= 1 << rng.below(8);
      let file: Awaited<ReturnType<typeof open>>;
      try {
        file = await open(bytes);
      } catch (e) {
        expect((e as { name: string }).name).toBe('LmqError');
        continue;
      }
      accepted++;
      // writing what was read gives the same file, but for what no reader keeps: the version word, padding, payloads of NaN keys
      const list = [...file.tensors.values()].map((t) => ({ ...t, dtype: typeOf(t.format), bytes: () => file.readBytes(t.name) }));
      const again = await write([...file.entries], list);
      const nan = file.entries.some((e) => Number.isNaN(e.value));
      expect(again.length).toBe(bytes.length);
      const same = await open(again);
      expect(same.entries).toEqual(file.entries);
      expect(same.tensors).toEqual(file.tensors);
      if (!nan && file.alignment === 32) {
        const sizes = [...file.tensors.values()].map((t) => t.bytes);
        const differ = Array.from(again.keys()).filter((at) => again[at] !== bytes[at]);
        for (const at of differ) expect(at === 4 || isPadding(at, dataAt, sizes), `byte ${at}`).toBe(true);
      }
    }
    expect(accepted).toBeGreaterThan(100);
  });
});

function typeOf(format: string): string {
  const floats: Record<string, string> = {
    fp32: 'F32',
    fp16: 'F16',
    bf16: 'BF16',
    fp64: 'F64',
    int8: 'I8',
    int16: 'I16',
    int32: 'I32',
    int64: 'I64',
  };
  return floats[format] ?? format;
}

/** Bytes that pad the header or a tensor, given the tensors' sizes in file order. */
function isPadding(at: number, dataAt: number, sizes: number[]): boolean {
  let start = dataAt;
  for (const size of sizes) {
    if (at >= start && at < start + size) return false;
    start += Math.ceil(size / 32) * 32;
  }
  return at >= dataAt - 31;
}

describe('GGUF tensor types', () => {
  it('have the sizes of ggml-common.h', () => {
    // bits per weight of design table 3.6 and the integer types
    const bits: Record<string, number> = {
      Q4_0: 4.5,
      Q4_1: 5,
      Q5_0: 5.5,
      Q5_1: 6,
      Q8_0: 8.5,
      Q2_K: 2.625,
      Q3_K: 3.4375,
      Q4_K: 4.5,
      Q5_K: 5.5,
      Q6_K: 6.5625,
      IQ4_NL: 4.5,
      IQ4_XS: 4.25,
      TQ1_0: 1.6875,
      TQ2_0: 2.0625,
      MXFP4: 4.25,
      NVFP4: 4.5,
      Q1_0: 1.125,
      Q2_0: 2.25,
      F32: 32,
      F16: 16,
      BF16: 16,
      I8: 8,
      I64: 64,
      F64: 64,
    };
    for (const [name, want] of Object.entries(bits)) {
      const t = GGUF_TYPES.get(name)!;
      expect((8 * t.blockBytes) / t.blockSize, name).toBe(want);
    }
  });
});
