import { ggufLlama, memorySink, memorySource, openGguf, permutedRows, type TensorToWrite, writeGguf } from '@lmq/checkpoints';
import { decode, selectRows } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS, type NanoModelName } from '@lmq/nano';
import { expect, it } from 'vitest';
import { loadModel, parseGgufConfig, tokenizerFromGguf } from '../src/index.js';
import { lossesOf, maxDifference, nanoGolden, openNano, readJson } from './_support.js';

/** A built-in model as a GGUF file of float32 tensors, in memory. */
async function asGguf(name: NanoModelName): Promise<Uint8Array> {
  const json = (file: string) => readJson(new URL(file, NANO_MODELS[name].folder));
  const { metadata, place, experts } = ggufLlama({
    config: json('config.json'),
    tokenizer: json('tokenizer.json'),
    tokenizerConfig: json('tokenizer_config.json'),
    generationConfig: json('generation_config.json'),
    fileType: 'F32',
  });
  const { checkpoint } = await openNano(name);
  const tensors = new Map<string, TensorToWrite>();
  const stacks = new Map<string, Float32Array[]>();
  for (const [tensor, { shape }] of checkpoint.tensors) {
    const to = place(tensor);
    if (!to) continue;
    const stored = await checkpoint.read(tensor);
    if ('stack' in to) {
      const parts = stacks.get(to.stack) ?? [];
      parts[to.expert] = decode(stored).data;
      stacks.set(to.stack, parts);
      const bytes = () => new Uint8Array(Float32Array.from(parts.flatMap((p) => [...p])).buffer);
      tensors.set(to.stack, { name: to.stack, shape: [experts, ...shape], dtype: 'F32', bytes });
    } else {
      const rows = to.permuteHeads ? selectRows(stored, permutedRows(stored.shape[0], to.permuteHeads)) : stored;
      const { data } = decode(rows);
      tensors.set(to.name, {
        name: to.name,
        shape,
        dtype: 'F32',
        bytes: () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      });
    }
  }
  const sink = memorySink();
  await writeGguf(sink, { metadata, tensors: [...tensors.values()] });
  return sink.bytes();
}

for (const name of ['lmq-nano', 'lmq-nano-moe'] as const) {
  it(`${name} computes the same from GGUF: permuted rows, interleaved rotation, stacked experts`, async () => {
    const golden = nanoGolden(name);
    const checkpoint = await openGguf(memorySource(await asGguf(name), `${name}.gguf`));
    const architecture = parseGgufConfig(checkpoint.metadata, (tensor) => checkpoint.tensors.has(tensor));
    expect(architecture.tied).toBe(name === 'lmq-nano');
    const model = await loadModel({ checkpoint, architecture, backend: await wasmBackend() });
    const s = model.backend.scope();
    const { data } = await s.read(await model.forward(s, golden.prompt_ids));
    const { nll, argmax } = lossesOf(data, architecture.vocab, golden.prompt_ids);
    expect(maxDifference(nll, golden.nll)).toBeLessThan(1e-3); // as in forward.test.ts
    expect(argmax).toEqual(golden.argmax);
    const tokenizer = tokenizerFromGguf(checkpoint.metadata);
    expect(tokenizer.encode(tokenizer.decode(golden.prompt_ids), { bos: true })).toEqual(golden.prompt_ids);
    model.dispose();
  });
}
