/**
 * Reading GGUF, versions 1 to 3, little-endian: the header in growing pieces, then tensors by range.
 * @module
 */
import { BLOCK_TYPE_NAMES, isBlockType } from '@lmq/formats';
import type { CompressedTensor, FloatFormat } from '@lmq/tensor';
import { asMatrix, fail, missingTensor, partOf } from './_checks.js';
import { denseOf } from './_floats.js';
import { GGUF_LIMITS, type GgufHeader, type GgufTensorEntry, NeedMore, parseGgufHeader } from './_gguf-header.js';
import type { ByteSource, GgufFile, GgufValue, TensorInfo } from './api.js';

const FIRST_PIECE = 256 * 1024;
const FLOATS = new Map<string, FloatFormat>([
  ['F32', 'fp32'],
  ['F16', 'fp16'],
  ['BF16', 'bf16'],
]);
const INTEGERS = new Map([
  ['I8', 'int8'],
  ['I16', 'int16'],
  ['I32', 'int32'],
  ['I64', 'int64'],
  ['F64', 'fp64'],
]);

export interface OpenGgufOpts {
  /** Largest header accepted, in bytes. Default and most: 536 870 912. */
  maxHeaderBytes?: number;
}

async function readHeader(source: ByteSource, most: number): Promise<GgufHeader> {
  const limit = Math.min(source.size, most);
  let length = Math.min(limit, FIRST_PIECE);
  for (;;) {
    const bytes = await source.read(0, length);
    try {
      return parseGgufHeader(bytes, source.size, source.name);
    } catch (e) {
      if (!(e instanceof NeedMore)) throw e;
      if (e.bytes > limit) {
        const facts = { op: 'openGguf', file: source.name, offset: length, expected: `at most ${limit} bytes` };
        fail('file/limit', 'the header is too long', facts);
      }
      length = Math.min(limit, Math.max(length * 4, e.bytes)); // each piece is read again from the start: at most 4/3 of the last one in all
    }
  }
}

/** A value without its types: nested arrays become plain nested arrays. */
function untyped(v: GgufValue): unknown {
  return v.type === 'array[]' ? (v.value as GgufValue[]).map(untyped) : v.value;
}

/**
 * Opens a GGUF file and checks its whole header. Key-values are in `metadata` under their own names: numbers (beyond 2^53: bigint), strings,
 * booleans, arrays of numbers as typed arrays. The source stays the caller's when this throws.
 * @throws LmqError `file/truncated` when the file ends early, `file/limit` when it asks for too much, `file/format` otherwise
 */
export async function openGguf(source: ByteSource, opts: OpenGgufOpts = {}): Promise<GgufFile> {
  const header = await readHeader(source, Math.min(opts.maxHeaderBytes ?? GGUF_LIMITS.headerBytes, GGUF_LIMITS.headerBytes));
  const file = source.name;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, t] of header.tensors) {
    const format = FLOATS.get(t.type.name) ?? INTEGERS.get(t.type.name) ?? t.type.name;
    tensors.set(name, { name, shape: t.shape, format, bytes: t.bytes, file });
  }
  const entry = (name: string, op: string): GgufTensorEntry => header.tensors.get(name) ?? missingTensor(name, file, op);
  const bytesFor = (t: GgufTensorEntry, from = 0, length = t.bytes) => source.read(t.start + from, length);
  async function readRows(name: string, from?: number, to?: number): Promise<CompressedTensor> {
    const t = entry(name, 'read');
    const [rows, cols] = asMatrix(t.shape);
    const [first, count] = partOf(rows, from, to, { op: 'readRows', file, tensor: name });
    const step = rows ? t.bytes / rows : 0; // blocks do not cross rows
    const shape: [number, number] = [count, cols];
    const type = t.type.name;
    const float = FLOATS.get(type);
    if (float) return denseOf(await bytesFor(t, first * step, count * step), float, shape);
    if (isBlockType(type)) return { kind: 'blocks', shape, type, data: await bytesFor(t, first * step, count * step) };
    const hint = `lmq computes with ${[...FLOATS.keys(), ...BLOCK_TYPE_NAMES].join(', ')}; get the model in one of these.`;
    return fail('model/unsupported', `the GGUF type ${type} is not one lmq computes with`, {
      op: 'read',
      file,
      tensor: name,
      offset: t.start,
      found: type,
      hint,
    });
  }
  return {
    format: 'gguf',
    version: header.version,
    alignment: header.alignment,
    entries: header.entries,
    tensors,
    metadata: new Map(header.entries.map((e) => [e.key, untyped(e)])),
    async readBytes(name, from, to) {
      const t = entry(name, 'readBytes');
      const [begin, length] = partOf(t.bytes, from, to, { op: 'readBytes', file, tensor: name });
      return bytesFor(t, begin, length);
    },
    read: (name) => readRows(name),
    readRows,
    close: () => source.close(),
  };
}
