/**
 * Export to GGUF for llama.cpp. Results of other methods go in verbatim where the block type holds the same bits; for the method ggml the
 * blocks are made here, while the file is written: one tensor in memory at a time, decoded a strip of rows at a time.
 * @module
 */
import { basename } from 'node:path';
import { type Checkpoint, type GgufMatrixType, permutedRows } from '@lmq/checkpoints';
import { type PlaceOpts, writeGgufFile } from '@lmq/checkpoints/node';
import {
  affineToBlocks,
  BLOCK_ENCODERS,
  BLOCK_TYPES,
  decode,
  type EncodableBlockType,
  encodeFloats,
  isBlockType,
  selectRows,
  sliceRows,
} from '@lmq/formats';
import { type BlockEncoder, createBlockEncoder } from '@lmq/kernels-wasm/encode-blocks';
import { type BlockType, type CompressedTensor, createPhase, LmqError, type LongCallOpts, nextTurn } from '@lmq/tensor';
import type { LayerReport } from '../api.js';
import { ggufBytesOf, type Placed, type PlanGgufOpts, planGguf } from './plan-gguf.js';

export interface ExportGgufOpts extends PlanGgufOpts, LongCallOpts, PlaceOpts {
  output: string;
  /** Tensor bytes in one file; more are written in parts. Default: everything in one. */
  maxShardBytes?: number;
}

export interface ExportedGguf {
  bytes: number;
  /** What was written: the file, or its parts. */
  files: string[];
  notes: string[];
  /** Of the tensors whose blocks were made here. */
  layers: LayerReport[];
}

/** Weights that are decoded at once. */
const STRIP = 2 ** 20;

/** Writes the file; it appears under its name only when it is whole. */
export async function exportGguf(checkpoint: Checkpoint, opts: ExportGgufOpts): Promise<ExportedGguf> {
  const { metadata, tensors, notes } = await planGguf(checkpoint, opts);
  const layers: LayerReport[] = [];
  const unweighted: string[] = [];
  const encoder = await createBlockEncoder();
  const done = createPhase('write', checkpoint.tensors.size, 'tensors', opts);
  let written = 0;
  const encoded = tensors.map((placed) => ({
    name: placed.name,
    shape: placed.shape,
    dtype: placed.type,
    bytes: async () => {
      if (placed.data) return bytesOf(placed.data);
      const importance = isBlockType(placed.type) ? opts.importance?.of(placed.name, placed.shape) : undefined;
      if (opts.importance && !importance && BLOCK_ENCODERS[placed.type as EncodableBlockType]?.encodeWeighted) unweighted.push(placed.name);
      let stack: Uint8Array | undefined;
      let at = 0;
      for (const [i, source] of placed.sources.entries()) {
        const t = await readRows(checkpoint, source, placed);
        const columns = t.shape[1];
        const weights = importance?.subarray(i * columns, (i + 1) * columns);
        let part: Uint8Array;
        if (isBlockType(placed.type) && t.kind === 'dense') {
          const made = await encodeTensor(encoder, placed.type, t, source, weights, opts.signal);
          layers.push(made.report);
          part = made.bytes;
        } else part = store(t, placed.type, source);
        done(++written, source);
        if (placed.sources.length === 1) return part;
        stack ??= new Uint8Array(ggufBytesOf(placed));
        stack.set(part, at);
        at += part.length;
      }
      return stack!;
    },
  }));
  const files = await writeGgufFile(opts.output, { metadata, tensors: encoded }, opts);
  if (files.length > 1) notes.push(`written in ${files.length} parts; open the model by the first: ${basename(files[0]!)}`);
  if (unweighted.length) {
    const [first, ...others] = unweighted;
    notes.push(`without importances: ${first}${others.length ? ` and ${others.length} more` : ''}, of which the file has none`);
  }
  return { bytes: tensors.reduce((sum, t) => sum + ggufBytesOf(t), 0), files, notes, layers };
}

/** A tensor as the file wants it: rows in its order, its values shifted and scaled. */
async function readRows(
  checkpoint: Checkpoint,
  source: string,
  { shape, permuteHeads, add = 0, scale = 1 }: Placed,
): Promise<CompressedTensor> {
  const t = await checkpoint.read(source);
  if (add !== 0 || scale !== 1) {
    const { data } = decode(t);
    return { kind: 'dense', shape: [...t.shape], format: 'fp32', data: data.map((x) => Math.fround(x + add) * scale) };
  }
  if (!permuteHeads) return t;
  if (shape.length > 1) return selectRows(t, permutedRows(t.shape[0], permuteHeads));
  const { data } = decode(t); // a bias: its elements are the rows
  return {
    kind: 'dense',
    shape: [1, data.length],
    format: 'fp32',
    data: Float32Array.from(permutedRows(data.length, permuteHeads), (i) => data[i]!),
  };
}

/** Floats to blocks by llama.cpp's quantizer of the type. */
async function encodeTensor(
  encoder: BlockEncoder,
  type: BlockType,
  t: CompressedTensor,
  source: string,
  importance: Float32Array | undefined,
  signal: AbortSignal | undefined,
): Promise<{ bytes: Uint8Array; report: LayerReport }> {
  const start = Date.now();
  const [rows, columns] = t.shape;
  const { blockSize, blockBytes } = BLOCK_TYPES[type];
  const rowBytes = (columns / blockSize) * blockBytes;
  const bytes = new Uint8Array(rows * rowBytes);
  const step = Math.max(1, Math.floor(STRIP / columns));
  let errors = 0;
  let squares = 0;
  for (let from = 0; from < rows; from += step) {
    signal?.throwIfAborted();
    const to = Math.min(from + step, rows);
    const strip = decode(sliceRows(t, from, to));
    const blocks = encodeStrip(encoder, type, strip, source, importance);
    bytes.set(blocks.data, from * rowBytes);
    const back = decode(blocks).data;
    for (let i = 0; i < back.length; i++) {
      const x = strip.data[i]!;
      errors += (x - back[i]!) ** 2;
      squares += x * x;
    }
    await nextTurn(); // lets an abort in
  }
  const report: LayerReport = {
    name: source.replace(/\.weight$/, ''),
    method: 'ggml',
    type,
    bitsPerWeight: (8 * blockBytes) / blockSize,
    weights: rows * columns,
    error: squares ? errors / squares : 0,
    seconds: (Date.now() - start) / 1000,
  };
  return { bytes, report };
}

function encodeStrip(
  encoder: BlockEncoder,
  type: BlockType,
  strip: ReturnType<typeof decode>,
  source: string,
  importance: Float32Array | undefined,
): Extract<CompressedTensor, { kind: 'blocks' }> {
  try {
    return encoder.encodeBlocks(type, strip, importance ? { importance } : {});
  } catch (cause) {
    if (!(cause instanceof LmqError)) throw cause;
    const hint = 'Leave this tensor as it is with --skip, or give it another type with --override.';
    throw new LmqError(cause.code, `the tensor cannot be stored as ${type}`, {
      op: 'export',
      tensor: source,
      found: cause.message,
      hint,
      cause,
    });
  }
}

/** A tensor whose bits the type holds as they are. */
function store(t: CompressedTensor, type: GgufMatrixType, name: string): Uint8Array {
  if (type === 'F32') return bytesOf(decode(t).data);
  if (type === 'F16') return bytesOf(t.kind === 'dense' && t.format === 'fp16' ? t.data : toHalf(decode(t).data, name));
  if (type === 'BF16') return bytesOf(t.kind === 'dense' && t.format === 'bf16' ? t.data : encodeFloats('bf16', decode(t).data));
  if (t.kind === 'blocks' && t.type === type) return t.data;
  const blocks = t.kind === 'affine' ? affineToBlocks(t, type) : null;
  if (!blocks) {
    throw new LmqError('export/unsupported', `the layout does not hold the bits of ${type}`, {
      op: 'export',
      tensor: name,
      expected: `${BLOCK_TYPES[type].blockSize} symmetric codes per fp16 scale`,
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
        hint: 'Export to gguf:bf16 or gguf:f32.',
      });
    }
  }
  return encodeFloats('fp16', data) as Uint16Array;
}

function bytesOf(data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
