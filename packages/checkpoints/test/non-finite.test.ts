import { decode } from '@lmq/formats';
import { describe, expect, it } from 'vitest';
import { guardNonFinite, type NonFiniteFound, type NonFinitePolicy } from '../src/non-finite.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { memorySink } from '../src/sources.js';
import { expectFailure, failure, source } from './_files.js';

const values = Float32Array.of(1, Number.NaN, -2, Number.POSITIVE_INFINITY);

async function open() {
  const sink = memorySink();
  const tensor = (name: string, data: Float32Array) => ({
    name,
    shape: [2, 2],
    dtype: 'F32',
    bytes: () => new Uint8Array(data.buffer),
  });
  await writeSafetensors(sink, [tensor('bad', values), tensor('good', Float32Array.of(1, 2, 3, 4))]);
  return openSafetensors(source(sink.bytes()));
}

describe('guardNonFinite', () => {
  const cases: [NonFinitePolicy, number[] | null][] = [
    ['error', null],
    ['warn', [...values]],
    ['zero', [1, 0, -2, 0]],
  ];
  it.each(cases)('%s', async (policy, want) => {
    const found: NonFiniteFound[] = [];
    const guarded = guardNonFinite(await open(), policy, (f) => found.push(f));
    expect(guarded.nonFinite).toBe(policy === 'error' ? undefined : policy);
    expect([...decode(await guarded.read('good')).data]).toEqual([1, 2, 3, 4]);
    expect(found).toEqual([]);
    if (want) expect([...decode(await guarded.read('bad')).data]).toEqual(want);
    else {
      const e = await expectFailure(() => guarded.read('bad'), 'argument/value', { tensor: 'bad', file: 'test file' });
      expect(e.message).toContain('2 values');
    }
    expect(found).toEqual([{ tensor: 'bad', file: 'test file', count: 2 }]);
    await expectFailure(() => guarded.read('none'), 'model/missing', { tensor: 'none' });
  });

  it('refuses another policy', async () => {
    const base = await open();
    expect((await failure(async () => guardNonFinite(base, 'ignore' as NonFinitePolicy))).code).toBe('argument/option');
  });
});
