/**
 * Writing GGUF version 3, little-endian: one tensor's bytes in memory at a time.
 * @module
 */

import { LmqError } from '@lmq/tensor';
import { type ByteWriter, createByteWriter } from './_byte-writer.js';
import { countOf, fail, isReserved, MAX_DIM, mulSafe, roundUp } from './_checks.js';
import { bytesOf } from './_floats.js';
import { GGUF_LIMITS } from './_gguf-header.js';
import { ARRAY_ID, isGgufKey, MAX_ARRAY_DEPTH, MAX_GGUF_RANK, MAX_NAME_BYTES, VALUE_TYPES, type ValueType } from './_gguf-values.js';
import type { ByteSink, GgufEntry, GgufValue, TensorToWrite } from './api.js';
import { GGUF_TYPES, type GgufTensorType } from './gguf-types.js';

const OP = 'writeGguf';

export interface GgufContents {
  /** Written in this order. `general.alignment` (u32), where present, sets the alignment; else it is 32. */
  metadata: readonly GgufEntry[];
  /** Written in this order; `dtype` is a GGUF type, e.g. `F16`, `Q4_0`; `shape` slowest axis first. */
  tensors: readonly TensorToWrite[];
}

function badValue(key: string, type: string, found: unknown): never {
  return fail('argument/value', `the value of ${key} does not fit its type`, { op: OP, expected: type, found });
}

function writeScalar(w: ByteWriter, type: ValueType, value: unknown, key: string): void {
  if (type.min !== undefined && type.max !== undefined) {
    const n = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : badValue(key, type.name, value);
    if (n < type.min || n > type.max) badValue(key, type.name, value);
    w.integer(n, type.bytes);
  } else if (type.name === 'string') {
    if (typeof value !== 'string') badValue(key, type.name, typeof value);
    w.string(value as string);
  } else if (type.name === 'bool') {
    if (typeof value !== 'boolean') badValue(key, type.name, value);
    w.integer(value ? 1n : 0n, 1);
  } else {
    if (typeof value !== 'number') badValue(key, type.name, value);
    if (type.name === 'f32') w.f32(value as number);
    else w.f64(value as number);
  }
}

function listOf(value: unknown, key: string, type: string): ArrayLike<unknown> {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value)) return value as ArrayLike<unknown>;
  return badValue(key, type, typeof value);
}

const badType = (key: string, found: string) => new LmqError('argument/value', `the type of ${key} is unknown`, { op: OP, found });

function writeArray(w: ByteWriter, { type, value }: GgufValue, key: string, depth: number): void {
  const items = listOf(value, key, type);
  if (items.length > GGUF_LIMITS.arrayItems) badValue(key, `at most ${GGUF_LIMITS.arrayItems} items`, items.length);
  if (type === 'array[]') {
    if (depth >= MAX_ARRAY_DEPTH) badValue(key, `at most ${MAX_ARRAY_DEPTH} levels of arrays`, 'more');
    w.integer(BigInt(ARRAY_ID), 4);
    w.integer(BigInt(items.length), 8);
    for (let i = 0; i < items.length; i++) writeArray(w, items[i] as GgufValue, key, depth + 1);
    return;
  }
  const item = type.endsWith('[]') ? VALUE_TYPES.get(type.slice(0, -2)) : undefined;
  if (!item) throw badType(key, type);
  w.integer(BigInt(item.id), 4);
  w.integer(BigInt(items.length), 8);
  // as memory, where it has the type: one by one, a signalling NaN would come out as a quiet one
  if (ArrayBuffer.isView(items) && items.constructor === item.array) w.raw(bytesOf(items));
  else for (let i = 0; i < items.length; i++) writeScalar(w, item, items[i], key);
}

function writeEntry(w: ByteWriter, entry: GgufEntry): void {
  w.string(entry.key);
  const scalar = VALUE_TYPES.get(entry.type);
  if (scalar) {
    w.integer(BigInt(scalar.id), 4);
    writeScalar(w, scalar, entry.value, entry.key);
  } else {
    w.integer(BigInt(ARRAY_ID), 4);
    writeArray(w, entry, entry.key, 1);
  }
}

/** Type and bytes of a tensor in a GGUF file. @throws LmqError `argument/value`, `argument/shape`, `export/unsupported` */
export function ggufBytes(t: TensorToWrite): { type: GgufTensorType; bytes: number } {
  const type = GGUF_TYPES.get(t.dtype);
  if (!type)
    return fail('argument/value', 'unknown GGUF type', {
      op: OP,
      tensor: t.name,
      expected: [...GGUF_TYPES.keys()].join(', '),
      found: t.dtype,
    });
  const ok = t.shape.length <= MAX_GGUF_RANK && t.shape.every((d) => Number.isInteger(d) && d >= 0 && d <= MAX_DIM);
  const count = ok ? countOf(t.shape) : null;
  if (count === null)
    return fail('argument/shape', 'the shape cannot be stored', { op: OP, tensor: t.name, found: `[${t.shape.join(', ')}]` });
  const row = t.shape.length ? t.shape[t.shape.length - 1]! : 1;
  if (row % type.blockSize !== 0) {
    const hint = `Store this tensor as F16 or F32.`;
    fail('export/unsupported', 'rows are not whole blocks', {
      op: OP,
      tensor: t.name,
      expected: `a multiple of ${type.blockSize} for ${type.name}`,
      found: row,
      hint,
    });
  }
  const bytes = mulSafe(count / type.blockSize, type.blockBytes);
  return bytes === null
    ? fail('argument/shape', 'the tensor is too large', { op: OP, tensor: t.name, found: t.shape.join(' x ') })
    : { type, bytes };
}

function alignmentOf(metadata: readonly GgufEntry[]): number {
  const entry = metadata.find((e) => e.key === 'general.alignment');
  if (!entry) return 32;
  const n = entry.value;
  const ok =
    entry.type === 'u32' && typeof n === 'number' && Number.isInteger(n) && n >= 8 && n <= GGUF_LIMITS.alignment && (n & (n - 1)) === 0;
  return ok ? (n as number) : badValue('general.alignment', 'a u32 power of two of at least 8', n);
}

function checkNames(names: readonly string[], what: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) fail('argument/value', `two ${what}s have one name`, { op: OP, found: name });
    seen.add(name);
  }
}

/**
 * Writes a GGUF file. Each tensor's `bytes()` is called once, in order, and may be freed afterwards.
 * @returns bytes written
 * @throws LmqError `argument/*` for names, values or data that no file can hold, `export/unsupported` for rows that are not whole blocks
 */
export async function writeGguf(sink: ByteSink, { metadata, tensors }: GgufContents): Promise<number> {
  checkNames(
    metadata.map((e) => e.key),
    'key',
  );
  checkNames(
    tensors.map((t) => t.name),
    'tensor',
  );
  const alignment = alignmentOf(metadata);
  const w = createByteWriter();
  w.integer(0x46554747n, 4);
  w.integer(3n, 4);
  w.integer(BigInt(tensors.length), 8);
  w.integer(BigInt(metadata.length), 8);
  for (const entry of metadata) {
    if (!isGgufKey(entry.key) || isReserved(entry.key))
      fail('argument/value', 'not a GGUF key', { op: OP, expected: 'printable ASCII', found: entry.key });
    writeEntry(w, entry);
  }
  let offset = 0;
  for (const t of tensors) {
    const nameBytes = new TextEncoder().encode(t.name).length;
    if (nameBytes === 0 || nameBytes > MAX_NAME_BYTES || isReserved(t.name))
      fail('argument/value', 'not a GGUF tensor name', {
        op: OP,
        tensor: t.name,
        expected: `1 … ${MAX_NAME_BYTES} bytes`,
        found: nameBytes,
      });
    const { type, bytes } = ggufBytes(t);
    w.string(t.name);
    w.integer(BigInt(t.shape.length), 4);
    for (let i = t.shape.length - 1; i >= 0; i--) w.integer(BigInt(t.shape[i]!), 8);
    w.integer(BigInt(type.id), 4);
    w.integer(BigInt(offset), 8);
    offset = roundUp(offset + bytes, alignment);
    if (!Number.isSafeInteger(offset)) fail('argument/shape', 'the tensors are too large', { op: OP, tensor: t.name });
  }
  const header = w.bytes();
  const dataStart = roundUp(header.length, alignment);
  await sink.write(header);
  if (dataStart > header.length) await sink.write(new Uint8Array(dataStart - header.length));
  for (const t of tensors) {
    const expected = ggufBytes(t).bytes;
    const data = await t.bytes();
    if (data.byteLength !== expected)
      fail('argument/value', 'the data is not as long as its shape says', {
        op: OP,
        tensor: t.name,
        expected: `${expected} bytes`,
        found: `${data.byteLength} bytes`,
      });
    if (expected) await sink.write(data);
    const padding = roundUp(expected, alignment) - expected;
    if (padding) await sink.write(new Uint8Array(padding));
  }
  return dataStart + offset;
}
