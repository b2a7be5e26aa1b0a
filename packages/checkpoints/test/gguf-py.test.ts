// Files that gguf-py wrote (golden/gguf-py.py): every type decodes to its values, bit for bit.
import { readFileSync } from 'node:fs';
import { decode } from '@lmq/formats';
import { expect, it } from 'vitest';
import { openGguf } from '../src/gguf.js';
import { readImatrix } from '../src/imatrix.js';
import { source } from './_files.js';

interface Golden {
  file: string;
  values: Record<string, string>;
  imatrix: string;
  sums: Record<string, number[]>;
}
const golden: Golden = JSON.parse(readFileSync(new URL('golden/gguf-py.json', import.meta.url), 'utf8'));
const bytesOf = (base64: string) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function fnv(bytes: Uint8Array): string {
  let h = 2166136261;
  for (const b of bytes) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h.toString(16).padStart(8, '0');
}

it('tensors of every type', async () => {
  const file = await openGguf(source(bytesOf(golden.file)));
  expect([...file.tensors.keys()].sort()).toEqual(Object.keys(golden.values).sort());
  expect(file.tensors.size).toBe(26);
  for (const [name, { shape }] of file.tensors) {
    expect(shape).toEqual([2, 256]);
    const data = decode(await file.read(name)).data.map((x) => x + 0); // -0 as 0: gguf-py keeps no sign of it
    expect(fnv(new Uint8Array(data.buffer)), name).toBe(golden.values[name]);
  }
  expect(Object.fromEntries(file.metadata)).toMatchObject({
    'general.architecture': 'test',
    'test.u32': 7,
    'test.f32': Math.fround(0.1),
    'test.bool': true,
    'test.strings': ['a', 'é', ''],
    'test.numbers': Int32Array.of(1, -2, 3),
  });
});

it('an importance matrix', async () => {
  const { entries, ...rest } = await readImatrix(source(bytesOf(golden.imatrix)));
  expect(rest).toEqual({ datasets: ['wiki.txt'], chunks: 5, chunkSize: 512 });
  const flat = [...entries].flatMap(([name, { sums, counts }]) => [
    [`${name}.in_sum2`, [...sums]],
    [`${name}.counts`, [...counts]],
  ]);
  expect(Object.fromEntries(flat)).toEqual(golden.sums);
});
