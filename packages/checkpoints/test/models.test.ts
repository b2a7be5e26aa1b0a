import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { contiguous } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { GgufFile, SafetensorsFile } from '../src/api.js';
import { openCheckpoint } from '../src/node.js';
import golden from './golden/models.json' with { type: 'json' };

// Models that are not part of the repository: golden/models.json was read from them by golden/make-models.py.
const models = new URL('../../../../shared/models/', import.meta.url);
const path = (file: string) => fileURLToPath(new URL(file, models));

function fnv(data: Uint8Array): number {
  let h = 2166136261;
  for (const b of data) h = Math.imul(h ^ b, 16777619);
  return h >>> 0;
}

interface GoldenTensor {
  dtype?: string;
  shape: number[];
  fnv: number;
  bits?: number[];
}

describe('safetensors models', () => {
  for (const name of ['lmq-nano', 'lmq-nano-moe', 'tinystories-656K'] as const) {
    const there = existsSync(path(`${name}/model.safetensors`));
    it.skipIf(!there)(`reads ${name} as Python does${there ? '' : ' (skipped: shared/models is absent)'}`, async () => {
      const want = golden[name];
      const file = (await openCheckpoint(path(name))) as SafetensorsFile;
      expect(file.tensors.size).toBe(want.count);
      expect(Object.fromEntries(file.metadata)).toEqual(want.metadata);
      expect([...file.tensors.values()].reduce((n, t) => n + t.bytes, 0)).toBe(want.bytes);
      for (const [tensor, t] of Object.entries(want.tensors) as [string, GoldenTensor][]) {
        expect(file.tensors.get(tensor)!.shape).toEqual(t.shape);
        expect(file.dtype(tensor)).toBe(t.dtype);
        expect(fnv(await file.readBytes(tensor))).toBe(t.fnv);
        const w = await file.read(tensor);
        if (w.kind !== 'dense') throw new Error('dense expected');
        if (t.bits) expect([...w.data.slice(0, 4)]).toEqual(t.bits);
      }
      await file.close();
    });
  }
});

describe('GGUF models', () => {
  const file = 'stories260K/stories260K-f32.gguf';
  const there = existsSync(path(file));
  it.skipIf(!there)(
    `reads stories260K, a file of version 1, as Python does${there ? '' : ' (skipped: shared/models is absent)'}`,
    async () => {
      const want = golden.stories260K;
      const model = (await openCheckpoint(path(file))) as GgufFile;
      expect(model.version).toBe(want.version);
      expect(model.tensors.size).toBe(want.count);
      for (const [key, value] of Object.entries(want.metadata)) {
        const found = model.metadata.get(key);
        if (typeof value === 'object') expect((found as ArrayLike<unknown>).length).toBe(value.length);
        else expect(found).toBe(value);
      }
      expect(model.metadata.size).toBe(Object.keys(want.metadata).length);
      for (const [tensor, t] of Object.entries(want.tensors)) {
        expect(model.tensors.get(tensor)!.shape).toEqual(t.shape);
        expect(fnv(await model.readBytes(tensor))).toBe(t.fnv);
      }
      await model.close();
    },
  );

  it.skipIf(!there)(`holds the weights of stories260K.bin${there ? '' : ' (skipped: shared/models is absent)'}`, async () => {
    // llama2.c's export: seven i32, then token embeddings in float32
    const raw = readFileSync(path('stories260K/stories260K.bin'));
    const model = await openCheckpoint(path(file));
    const w = await model.read('token_embd.weight');
    if (w.kind !== 'dense') throw new Error('dense expected');
    const first = new Float32Array(raw.buffer.slice(raw.byteOffset + 28, raw.byteOffset + 28 + 4 * w.data.length));
    expect(contiguous({ data: first, shape: [first.length], stride: [1], offset: 0 })).toEqual(w.data);
    await model.close();
  });
});
