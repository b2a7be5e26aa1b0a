/**
 * Export to GGUF for llama.cpp: names and metadata of the llama family, q and k rows in GGUF's rotary order, block types verbatim where
 * the layout holds the same bits.
 * @module
 */
import { join } from 'node:path';
import { type Checkpoint, type GgufEntry, ggufLlama, ggufNeedsF32, permutedRows, writeGguf } from '@lmq/checkpoints';
import { writeFileAtomic } from '@lmq/checkpoints/node';
import { affineToBlocks, BLOCK_TYPES, decode, encodeFloats, selectRows } from '@lmq/formats';
import { type BlockType, type CompressedTensor, createPhase, LmqError, type LongCallOpts, printable } from '@lmq/tensor';
import type { ExportName } from '../api.js';
import { optional, readConfig, readTokenizerJson } from './text-files.js';

export interface ExportGgufOpts extends LongCallOpts {
  folder: string;
  output: string;
  force?: boolean;
  target: Extract<ExportName, `gguf:${string}`>;
  /** Model name for `general.name`. */
  name: string;
}

type FileType = 'F32' | 'F16' | 'Q8_0' | 'Q4_0';

/** One tensor of the file and the tensors of the checkpoint that go into it: one, or the experts of a stack in order. */
interface Placed {
  name: string;
  shape: number[];
  type: FileType;
  sources: string[];
  permuteHeads?: number;
}

/** What the file will hold, in order, its metadata, and what has no place in it. */
export async function planGguf(
  checkpoint: Checkpoint,
  { folder, target, name }: Pick<ExportGgufOpts, 'folder' | 'target' | 'name'>,
): Promise<{ metadata: GgufEntry[]; tensors: Placed[]; notes: string[] }> {
  const fileType = target.slice('gguf:'.length).toUpperCase() as FileType;
  const tokenizer = await optional(readTokenizerJson, folder, 'tokenizer.json');
  if (!tokenizer) {
    throw new LmqError('file/missing', 'GGUF needs the tokenizer', {
      op: 'export',
      file: join(folder, 'tokenizer.json'),
      hint: 'Add it to the model folder, or export to lmq.',
    });
  }
  const { metadata, place } = ggufLlama({
    config: await readConfig(folder, 'config.json'),
    tokenizer,
    tokenizerConfig: await optional(readTokenizerJson, folder, 'tokenizer_config.json'),
    generationConfig: await optional(readConfig, folder, 'generation_config.json'),
    fileType,
    name,
  });
  const notes: string[] = [];
  const tensors: Placed[] = [];
  const stacks = new Map<string, Placed>();
  for (const [source, info] of checkpoint.tensors) {
    const to = place(source);
    if (!to) {
      notes.push(`${printable(source)} is not written: GGUF has no place for it (tied or unused)`);
    } else if ('stack' in to) {
      const placed = stacks.get(to.stack) ?? { name: to.stack, shape: info.shape, type: typeOf(info.format, fileType), sources: [] };
      placed.sources[to.expert] = source;
      stacks.set(to.stack, placed);
    } else {
      const type = ggufNeedsF32(to.name, info.shape) ? 'F32' : typeOf(info.format, fileType);
      tensors.push({
        name: to.name,
        shape: info.shape,
        type,
        sources: [source],
        ...(to.permuteHeads && { permuteHeads: to.permuteHeads }),
      });
    }
  }
  for (const s of stacks.values()) tensors.push({ ...s, shape: [s.sources.length, ...s.shape] });
  return { metadata, tensors, notes };
}

/** Bytes of a tensor's data. */
export function ggufBytesOf({ shape, type }: Pick<Placed, 'shape' | 'type'>): number {
  const n = shape.reduce((a, b) => a * b, 1);
  if (type === 'F32') return 4 * n;
  if (type === 'F16') return 2 * n;
  const { blockSize, blockBytes } = BLOCK_TYPES[type];
  return (n / blockSize) * blockBytes;
}

/** Writes the file; it appears under its name only when it is whole. */
export async function exportGguf(checkpoint: Checkpoint, opts: ExportGgufOpts): Promise<{ bytes: number; notes: string[] }> {
  const { metadata, tensors, notes } = await planGguf(checkpoint, opts);
  const done = createPhase('write', checkpoint.tensors.size, 'tensors', opts);
  let written = 0;
  const encoded = tensors.map(({ name, shape, type, sources, permuteHeads }) => ({
    name,
    shape,
    dtype: type,
    bytes: async () => {
      const parts: Uint8Array[] = [];
      for (const source of sources) {
        const t = await checkpoint.read(source);
        parts.push(encode(permuteHeads ? selectRows(t, permutedRows(t.shape[0], permuteHeads)) : t, type, source));
        done(++written, source);
      }
      return parts.length === 1 ? parts[0]! : concat(parts);
    },
  }));
  await writeFileAtomic(opts.output, (sink) => writeGguf(sink, { metadata, tensors: encoded }), { force: opts.force, signal: opts.signal });
  return { bytes: tensors.reduce((sum, t) => sum + ggufBytesOf(t), 0), notes };
}

/** Quantized linears take the file's block type, other matrices the file's float type (F16 beside block types). */
function typeOf(format: string, fileType: FileType): FileType {
  if (fileType === 'F32') return 'F32';
  const dense = format === 'fp32' || format === 'fp16' || format === 'bf16';
  return dense ? 'F16' : fileType;
}

function encode(t: CompressedTensor, type: FileType, name: string): Uint8Array {
  if (type === 'F32') return bytesOf(decode(t).data);
  if (type === 'F16') return bytesOf(t.kind === 'dense' && t.format === 'fp16' ? t.data : toHalf(decode(t).data, name));
  if (t.kind === 'blocks' && t.type === type) return t.data;
  const blocks = t.kind === 'affine' ? affineToBlocks(t, type as BlockType) : null;
  if (!blocks) {
    throw new LmqError('export/unsupported', `the layout does not hold the bits of ${type}`, {
      op: 'export',
      tensor: name,
      expected: `${BLOCK_TYPES[type as BlockType].blockSize} symmetric codes per fp16 scale`,
      found: t.kind,
    });
  }
  return blocks.data;
}

/** Half precision, refusing values that it cannot reach. */
function toHalf(data: Float32Array, name: string): Uint16Array {
  for (let i = 0; i < data.length; i++) {
    if (Math.abs(data[i]!) >= 65520) {
      throw new LmqError('export/unsupported', 'a weight is too large for half precision', {
        op: 'export',
        tensor: name,
        expected: 'magnitudes below 65520',
        found: data[i],
        hint: 'Export to gguf:f32.',
      });
    }
  }
  return encodeFloats('fp16', data) as Uint16Array;
}

function bytesOf(data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function concat(parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
