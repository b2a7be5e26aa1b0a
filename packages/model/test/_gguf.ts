import {
  type Checkpoint,
  type GgufEntry,
  memorySink,
  memorySource,
  openGguf,
  permutedRows,
  type TensorToWrite,
  writeGguf,
} from '@lmq/checkpoints';
import { decode, selectRows } from '@lmq/formats';
import { type Architecture, ggufModel, parseGgufConfig, ROPE_FACTORS } from '../src/index.js';

const bytesOf = (data: Float32Array) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** A model as a GGUF file of float32 tensors, in memory, opened again. */
export async function throughGguf(checkpoint: Checkpoint, architecture: Architecture, tokenizer: GgufEntry[] = []) {
  const { metadata, extra, notes, place } = ggufModel(architecture, { fileType: 'f32' });
  const tensors = new Map<string, TensorToWrite>();
  const stacks = new Map<string, Float32Array[]>();
  const put = (name: string, shape: number[], data: Float32Array) =>
    tensors.set(name, { name, shape, dtype: 'F32', bytes: () => bytesOf(data) });
  for (const { name, data } of extra) put(name, [data.length], data);
  for (const [tensor, { shape }] of checkpoint.tensors) {
    const to = place(tensor);
    if (!to) continue;
    const stored = await checkpoint.read(tensor);
    if ('stack' in to) {
      const parts = stacks.get(to.stack) ?? [];
      parts[to.expert] = decode(stored).data;
      stacks.set(to.stack, parts);
      const experts = architecture.moe!.experts;
      const bytes = () => bytesOf(Float32Array.from(parts.flatMap((p) => [...p])));
      tensors.set(to.stack, { name: to.stack, shape: [experts, ...shape], dtype: 'F32', bytes });
    } else {
      const { permuteHeads, add = 0, scale = 1 } = to;
      const vector = shape.length === 1; // a bias: its elements are the rows
      const matrix = vector && permuteHeads ? { ...stored, shape: [shape[0]!, 1] as [number, number] } : stored;
      const { data } = decode(permuteHeads ? selectRows(matrix, permutedRows(shape[0]!, permuteHeads)) : matrix);
      put(
        to.name,
        shape,
        data.map((x) => Math.fround(x + add) * scale),
      );
    }
  }
  const sink = memorySink();
  await writeGguf(sink, { metadata: [...metadata, ...tokenizer], tensors: [...tensors.values()] });
  const gguf = await openGguf(memorySource(sink.bytes(), 'model.gguf'));
  const has = (name: string) => gguf.tensors.has(name);
  const factors = has(ROPE_FACTORS) ? decode(await gguf.read(ROPE_FACTORS)).data : undefined;
  return { gguf, notes, architecture: parseGgufConfig(gguf.metadata, has, factors) };
}
