import { LmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { ByteSource, TensorToWrite } from '../src/api.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { isShardName, openSharded, parseShardIndex } from '../src/sharded.js';
import { memorySink } from '../src/sources.js';
import { expectFailure, failure, source } from './_files.js';

const tensor = (name: string, value: number): TensorToWrite => ({
  name,
  shape: [2],
  dtype: 'F32',
  bytes: () => new Uint8Array(Float32Array.of(value, 0).buffer),
});

async function file(...tensors: TensorToWrite[]): Promise<Uint8Array> {
  const sink = memorySink();
  await writeSafetensors(sink, tensors, { format: 'pt' });
  return sink.bytes();
}

/** Two shards with three tensors; `open` and `closed` count the sources. */
async function model(index: unknown, shards?: Record<string, Uint8Array>) {
  const files = shards ?? { 'a.safetensors': await file(tensor('x', 1), tensor('y', 2)), 'b.safetensors': await file(tensor('z', 3)) };
  const log = { opened: 0, closed: 0 };
  const open = () =>
    openSharded(typeof index === 'string' ? index : JSON.stringify(index), 'index.json', async (name): Promise<ByteSource> => {
      const bytes = Object.hasOwn(files, name) ? files[name] : undefined;
      if (!bytes) throw new LmqError('file/missing', 'not there', { file: name });
      log.opened++;
      return { ...source(bytes, name), close: async () => void log.closed++ };
    });
  return { open, log };
}

const INDEX = { metadata: { total_size: 24 }, weight_map: { x: 'a.safetensors', y: 'a.safetensors', z: 'b.safetensors' } };

describe('openSharded', () => {
  it('reads shards as one checkpoint', async () => {
    const { open, log } = await model(INDEX);
    const checkpoint = await open();
    expect([...checkpoint.tensors.keys()].sort()).toEqual(['x', 'y', 'z']);
    expect(checkpoint.tensors.get('z')!.file).toBe('b.safetensors');
    expect(await checkpoint.read('z')).toMatchObject({ data: Float32Array.of(3, 0) });
    expect(await checkpoint.readBytes('y', 0, 4)).toEqual(new Uint8Array(Float32Array.of(2).buffer));
    expect(checkpoint.dtype('x')).toBe('F32');
    expect(checkpoint.metadata.get('format')).toBe('pt');
    await expectFailure(() => checkpoint.read('w'), 'model/missing', { tensor: 'w' });
    await checkpoint.close();
    expect(log).toEqual({ opened: 2, closed: 2 });
  });

  it('does without a total size', async () => {
    const { open } = await model({ weight_map: INDEX.weight_map });
    expect((await open()).tensors.size).toBe(3);
  });

  it.each<[string, unknown, string, Record<string, unknown>]>([
    ['a missing shard', { weight_map: { ...INDEX.weight_map, w: 'c.safetensors' } }, 'file/missing', { file: 'c.safetensors' }],
    [
      'a tensor that its shard lacks',
      { weight_map: { ...INDEX.weight_map, w: 'b.safetensors' } },
      'file/format',
      { tensor: 'w', file: 'b.safetensors' },
    ],
    [
      'a tensor in another shard',
      { weight_map: { ...INDEX.weight_map, y: 'b.safetensors' } },
      'file/format',
      { tensor: 'y', found: 'a.safetensors' },
    ],
    [
      'a tensor that the index lacks',
      { weight_map: { x: 'a.safetensors', z: 'b.safetensors' } },
      'file/format',
      { tensor: 'y', file: 'a.safetensors' },
    ],
    ['a wrong total size', { ...INDEX, metadata: { total_size: 25 } }, 'file/format', { expected: 25, found: 24 }],
  ])('refuses %s and closes what it opened', async (_, index, code, facts) => {
    const { open, log } = await model(index);
    await expectFailure(open, code as never, facts);
    expect(log.closed).toBe(log.opened);
  });

  it('refuses one name in two shards', async () => {
    const shards = { 'a.safetensors': await file(tensor('x', 1)), 'b.safetensors': await file(tensor('x', 2)) };
    const { open, log } = await model({ weight_map: { x: 'a.safetensors' } }, shards);
    expect((await open()).tensors.size).toBe(1); // b is not part of this model
    const { open: both } = await model('{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}', shards);
    await expectFailure(both, 'file/format', { offset: 35 });
    const { open: hidden } = await model({ weight_map: { x: 'a.safetensors', q: 'b.safetensors' } }, shards);
    await expectFailure(hidden, 'file/format', { tensor: 'x', found: 'b.safetensors' });
    expect(log.opened).toBe(1);
  });

  it('closes everything when a shard is damaged', async () => {
    const good = await file(tensor('x', 1));
    const { open, log } = await model(
      { weight_map: { x: 'a.safetensors', z: 'b.safetensors' } },
      { 'a.safetensors': good, 'b.safetensors': good.slice(0, 20) },
    );
    await expectFailure(open, 'file/truncated', { file: 'b.safetensors' });
    expect(log).toEqual({ opened: 2, closed: 2 });
  });
});

describe('shard names', () => {
  it.each(['model.safetensors', 'model-00001-of-00002.safetensors', '_x.safetensors', 'a.b-c.safetensors'])('takes %s', (name) => {
    expect(isShardName(name)).toBe(true);
  });

  const bad = [
    '../a.safetensors',
    '/etc/a.safetensors',
    'a/b.safetensors',
    'a\\b.safetensors',
    'C:\\a.safetensors',
    'C:a.safetensors',
    'a%2fb.safetensors',
    'a\0.safetensors',
    'a..b.safetensors',
    '.hidden.safetensors',
    '-rf.safetensors',
    'http://x/a.safetensors',
    'a.safetensors ',
    'a.safetensors\n',
    'a.bin',
    '.safetensors',
    'é.safetensors',
    `${'a'.repeat(300)}.safetensors`,
    '',
  ];
  it.each(bad)('refuses %j', async (name) => {
    expect(isShardName(name)).toBe(false);
    const text = JSON.stringify({ weight_map: { x: name } });
    await expectFailure(() => parseShardIndex(text, 'index.json'), 'file/format', { tensor: 'x', offset: 19, file: 'index.json' });
  });

  it('bounds their number', async () => {
    const map = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `s${i}.safetensors`]));
    expect((await failure(() => parseShardIndex(JSON.stringify({ weight_map: map }), 'i'))).code).toBe('file/limit');
  });

  it.each([
    '[]',
    '{}',
    '{"weight_map":[]}',
    '{"weight_map":{"x":1}}',
    '{"weight_map":{},"metadata":{"total_size":-1}}',
    '{"weight_map":{},"metadata":{"total_size":"24"}}',
  ])('refuses the index %s', async (text) => {
    expect((await failure(() => parseShardIndex(text, 'i'))).code).toBe('file/format');
  });
});
