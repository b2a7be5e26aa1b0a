import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bytesOf } from '../src/_floats.js';
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

  it.skipIf(!there)(`holds the weights of stories260K.bin, all of them${there ? '' : ' (skipped: shared/models is absent)'}`, async () => {
    // llama2.c's export (karpathy/llama2.c, run.c): seven i32, then float32 tensors in this order, each for all layers
    const raw = readFileSync(path('stories260K/stories260K.bin'));
    const [dim, hidden, layers, heads, kvHeads, vocab, context] = new Int32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + 28));
    const weights = new Float32Array(raw.buffer.slice(raw.byteOffset + 28, raw.byteOffset + raw.length));
    let at = 0;
    const next = (n: number) => {
      at += n;
      return weights.subarray(at - n, at);
    };
    const perLayer = (n: number) => Array.from({ length: layers! }, () => next(n));
    const kv = (dim! / heads!) * kvHeads!;
    const embedding = next(vocab! * dim!);
    const bin: Record<string, Float32Array[]> = {};
    bin.attn_norm = perLayer(dim!);
    bin.attn_q = perLayer(dim! * dim!);
    bin.attn_k = perLayer(kv * dim!);
    bin.attn_v = perLayer(kv * dim!);
    bin.attn_output = perLayer(dim! * dim!);
    bin.ffn_norm = perLayer(dim!);
    bin.ffn_gate = perLayer(hidden! * dim!);
    bin.ffn_down = perLayer(dim! * hidden!);
    bin.ffn_up = perLayer(hidden! * dim!);
    const norm = next(dim!);
    next(context! * (dim! / heads!)); // cosines and sines of the rotary embedding, which GGUF does not store
    expect(vocab).toBeGreaterThan(0); // embeddings are shared with the output: nothing follows
    expect(at).toBe(weights.length);

    const want = new Map<string, Float32Array>([
      ['token_embd.weight', embedding],
      ['output_norm.weight', norm],
      ['output.weight', embedding],
    ]);
    // queries and keys need no permutation: both rotate pairs of neighbours
    for (const [name, list] of Object.entries(bin)) for (const [i, data] of list.entries()) want.set(`blk.${i}.${name}.weight`, data);
    const model = (await openCheckpoint(path(file))) as GgufFile;
    expect([...model.tensors.keys()].sort()).toEqual([...want.keys()].sort());
    for (const [name, data] of want) {
      const w = await model.read(name);
      if (w.kind !== 'dense') throw new Error('dense expected');
      expect(Buffer.compare(bytesOf(w.data), bytesOf(data)), name).toBe(0);
    }
    await model.close();
  });

  const tokens = 'stories260K/tok512.bin';
  const both = there && existsSync(path(tokens));
  it.skipIf(!both)(`holds the tokens of tok512.bin${both ? '' : ' (skipped: shared/models is absent)'}`, async () => {
    // llama2.c's tokenizer: length of the longest token, then for each its score (f32), length (i32) and bytes
    const raw = readFileSync(path(tokens));
    const scores: number[] = [];
    const texts: string[] = [];
    for (let at = 4; at < raw.length; ) {
      const length = raw.readInt32LE(at + 4);
      scores.push(raw.readFloatLE(at));
      texts.push(raw.toString('utf8', at + 8, at + 8 + length));
      at += 8 + length;
    }
    const model = (await openCheckpoint(path(file))) as GgufFile;
    expect(texts).toHaveLength(512);
    // GGUF writes spaces as sentencepiece does, and the two control tokens without the line breaks that llama2.c puts around them
    const spelled = texts.map((text, i) => (i === 1 || i === 2 ? text.trim() : text.replaceAll(' ', '\u2581')));
    expect(model.metadata.get('tokenizer.ggml.tokens')).toEqual(spelled);
    expect(model.metadata.get('tokenizer.ggml.scores')).toEqual(Float32Array.from(scores));
    await model.close();
  });
});
