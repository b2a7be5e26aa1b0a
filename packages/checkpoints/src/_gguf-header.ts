/**
 * The header of a GGUF file (ggml docs/gguf.md; rules of ggml's own reader, src/gguf.cpp): every count is compared with the bytes left
 * before anything is allocated, no key and no name may appear twice, offsets must be the running padded sum.
 *
 * The header has no length word, so parsing starts on a first piece of the file and asks for more ({@link NeedMore}) when it runs out.
 * @module
 */
import { type ErrorCode, type ErrorFacts, printable } from '@lmq/tensor';
import { countOf, fail, isReserved, MAX_DIM, mulSafe, roundUp } from './_checks.js';
import { ARRAY_ID, isGgufKey, MAX_ARRAY_DEPTH, MAX_GGUF_RANK, MAX_KEY_BYTES, MAX_NAME_BYTES, VALUE_TYPES_BY_ID } from './_gguf-values.js';
import type { GgufEntry, GgufValue } from './api.js';
import { GGUF_TYPES_BY_ID, type GgufTensorType } from './gguf-types.js';

const OP = 'openGguf';

/** What one file may ask for. Several times what the largest known models need. */
export const GGUF_LIMITS = {
  headerBytes: 512 * 2 ** 20,
  keyValues: 100_000,
  tensors: 1_000_000,
  stringBytes: 16 * 2 ** 20,
  arrayItems: 16 * 2 ** 20,
  /** Arrays inside arrays, all together: an empty one takes 12 bytes of the file, and twenty times that in memory. */
  nestedArrays: 65_536,
  alignment: 2 ** 20,
} as const;

/** Thrown by {@link parseGgufHeader}: the header goes on beyond the bytes at hand, to `bytes` at least. */
export class NeedMore extends Error {
  readonly bytes: number;
  constructor(bytes: number) {
    super('more bytes are needed');
    this.bytes = bytes;
  }
}

export interface GgufTensorEntry {
  type: GgufTensorType;
  /** Slowest axis first. */
  shape: number[];
  /** Byte of the file where the data begins, and its length. */
  start: number;
  bytes: number;
}

export interface GgufHeader {
  version: number;
  alignment: number;
  entries: GgufEntry[];
  tensors: Map<string, GgufTensorEntry>;
}

/** Reads numbers and strings in order. Every length is checked against the file's size, then against the bytes at hand. */
interface Cursor {
  at: number;
  /** Size of the file. */
  readonly size: number;
  /** Moves on by `n` bytes that are all there and returns where they begin. */
  take(n: number, what: string): number;
  /** Fails unless `n` things of at least `each` bytes fit in the rest of the file. */
  fits(n: number, each: number, what: string): void;
  u32(what: string): number;
  /** A count or a length: u64, or u32 in version 1. Beyond 2^53 it is clamped to 2^53, which no check lets through. */
  count(what: string): number;
  string(what: string, limit?: number): string;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  wide: boolean;
  /** Arrays inside arrays read so far. */
  nested: number;
  fail(code: ErrorCode, what: string, facts?: ErrorFacts): never;
}

function createCursor(bytes: Uint8Array, size: number, file: string): Cursor {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hint = 'Download the file again.';
  const cursor: Cursor = {
    at: 0,
    size,
    view,
    bytes,
    wide: true,
    nested: 0,
    fail: (code, what, facts = {}) => fail(code, what, { op: OP, file, offset: cursor.at, ...facts }),
    take(n, what) {
      const from = cursor.at;
      if (n > size - from)
        cursor.fail('file/truncated', `the file ends inside ${what}`, { expected: `${n} bytes`, found: `${size - from} bytes`, hint });
      if (from + n > bytes.byteLength) throw new NeedMore(from + n);
      cursor.at = from + n;
      return from;
    },
    fits(n, each, what) {
      if (n > (size - cursor.at) / each)
        cursor.fail('file/truncated', `the file is too short for ${what}`, {
          expected: `at least ${n} x ${each} bytes`,
          found: `${size - cursor.at} bytes`,
          hint,
        });
    },
    u32: (what) => view.getUint32(cursor.take(4, what), true),
    count(what) {
      if (!cursor.wide) return cursor.u32(what);
      const n = view.getBigUint64(cursor.take(8, what), true);
      return n > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER + 1 : Number(n);
    },
    string(what, limit = GGUF_LIMITS.stringBytes) {
      const start = cursor.at;
      const length = cursor.count(what);
      if (length > limit)
        cursor.fail('file/limit', `${what} is too long`, { offset: start, expected: `at most ${limit} bytes`, found: length });
      const from = cursor.take(length, what);
      try {
        return utf8.decode(bytes.subarray(from, from + length));
      } catch {
        return cursor.fail('file/format', `${what} is not valid UTF-8`, { offset: from });
      }
    },
  };
  return cursor;
}

/** u64 and i64 as a number where it is exact. */
const plain = (n: bigint): number | bigint => (n >= -9007199254740991n && n <= 9007199254740991n ? Number(n) : n);

function readScalar(c: Cursor, name: string, what: string): unknown {
  switch (name) {
    case 'u8':
      return c.view.getUint8(c.take(1, what));
    case 'i8':
      return c.view.getInt8(c.take(1, what));
    case 'u16':
      return c.view.getUint16(c.take(2, what), true);
    case 'i16':
      return c.view.getInt16(c.take(2, what), true);
    case 'u32':
      return c.u32(what);
    case 'i32':
      return c.view.getInt32(c.take(4, what), true);
    case 'f32':
      return c.view.getFloat32(c.take(4, what), true);
    case 'f64':
      return c.view.getFloat64(c.take(8, what), true);
    case 'u64':
      return plain(c.view.getBigUint64(c.take(8, what), true));
    case 'i64':
      return plain(c.view.getBigInt64(c.take(8, what), true));
    case 'bool': {
      const at = c.take(1, what);
      const byte = c.bytes[at]!;
      if (byte > 1) c.fail('file/format', `${what} is neither true nor false`, { offset: at, expected: '0 or 1', found: byte });
      return byte === 1;
    }
    default:
      return c.string(what);
  }
}

function readArray(c: Cursor, key: string, depth: number): GgufValue {
  const start = c.at;
  const id = c.u32(key);
  const n = c.count(key);
  if (n > GGUF_LIMITS.arrayItems)
    c.fail('file/limit', 'an array is too long', {
      offset: start,
      expected: `at most ${GGUF_LIMITS.arrayItems} items`,
      found: `${n} in ${key}`,
    });
  if (id === ARRAY_ID) {
    if (depth >= MAX_ARRAY_DEPTH)
      c.fail('file/limit', 'arrays are nested too deep', { offset: start, expected: `at most ${MAX_ARRAY_DEPTH} levels` });
    c.nested += n;
    if (c.nested > GGUF_LIMITS.nestedArrays)
      c.fail('file/limit', 'there are too many arrays inside arrays', {
        offset: start,
        expected: `at most ${GGUF_LIMITS.nestedArrays}`,
        found: `${c.nested} in ${key}`,
      });
    c.fits(n, c.wide ? 12 : 8, 'an array');
    const value: GgufValue[] = [];
    for (let i = 0; i < n; i++) value.push(readArray(c, key, depth + 1));
    return { type: 'array[]', value };
  }
  const type = VALUE_TYPES_BY_ID.get(id);
  if (!type) return c.fail('file/format', 'unknown type of array items', { offset: start, found: id });
  c.fits(n, type.name === 'string' && !c.wide ? 4 : type.bytes, 'an array');
  if (type.array) {
    const from = c.take(n * type.bytes, key);
    return { type: `${type.name}[]`, value: new type.array(c.bytes.slice(from, from + n * type.bytes).buffer) };
  }
  const value: unknown[] = [];
  for (let i = 0; i < n; i++) value.push(readScalar(c, type.name, key));
  return { type: `${type.name}[]`, value };
}

function readEntries(c: Cursor, count: number): { entries: Map<string, GgufEntry>; alignmentAt: number } {
  const entries = new Map<string, GgufEntry>();
  let alignmentAt = 0;
  for (let i = 0; i < count; i++) {
    const start = c.at;
    const key = c.string('a key', MAX_KEY_BYTES);
    if (!isGgufKey(key)) c.fail('file/format', 'not a key', { offset: start, expected: 'printable ASCII', found: key });
    if (isReserved(key)) c.fail('file/format', 'a key is a reserved name', { offset: start, found: key });
    if (entries.has(key)) c.fail('file/format', 'a key appears twice', { offset: start, found: key });
    if (key === 'general.alignment') alignmentAt = start;
    const typeAt = c.at;
    const shown = printable(key); // keys of thousands of characters are legal, but no help in a message
    const id = c.u32(shown);
    if (id === ARRAY_ID) {
      const { type, value } = readArray(c, shown, 1);
      entries.set(key, { key, type, value });
    } else {
      const type = VALUE_TYPES_BY_ID.get(id);
      if (!type)
        return c.fail('file/format', 'unknown type of a value', { offset: typeAt, expected: '0 … 12', found: `${id} of ${shown}` });
      entries.set(key, { key, type: type.name, value: readScalar(c, type.name, shown) });
    }
  }
  return { entries, alignmentAt };
}

function alignmentOf(c: Cursor, entries: Map<string, GgufEntry>, offset: number): number {
  const entry = entries.get('general.alignment');
  if (!entry) return 32;
  const { type, value } = entry;
  const ok = type === 'u32' && typeof value === 'number' && value >= 8 && value <= GGUF_LIMITS.alignment && (value & (value - 1)) === 0;
  if (!ok)
    c.fail('file/format', 'general.alignment cannot be used', {
      offset,
      expected: `a u32 power of two from 8 to ${GGUF_LIMITS.alignment}`,
      found: `${type} ${value}`,
    });
  return value as number;
}

/** One tensor's entry. `next` is where its data must begin, counted from the data section. */
function readTensor(c: Cursor, taken: ReadonlyMap<string, unknown>, next: number): { name: string; entry: GgufTensorEntry } {
  const at = c.at;
  const name = c.string('a tensor name', MAX_NAME_BYTES);
  const where = { offset: at, tensor: name };
  if (name === '' || isReserved(name)) c.fail('file/format', 'not a tensor name', { offset: at, found: name });
  if (taken.has(name)) c.fail('file/format', 'two tensors have one name', where);
  const rank = c.u32('a tensor');
  if (rank > MAX_GGUF_RANK)
    c.fail('file/format', 'a tensor has too many axes', { ...where, expected: `at most ${MAX_GGUF_RANK}`, found: rank });
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(c.count('a shape'));
  const wide = shape.find((d) => d > MAX_DIM);
  if (wide !== undefined) c.fail('file/limit', 'an axis is too long', { ...where, expected: `at most ${MAX_DIM}`, found: wide });
  const id = c.u32('a tensor');
  const type = GGUF_TYPES_BY_ID.get(id);
  if (!type)
    return c.fail('file/format', 'unknown tensor type', { ...where, found: id, hint: 'The file is damaged or newer than this reader.' });
  const row = shape.length ? shape[shape.length - 1]! : 1;
  if (row % type.blockSize !== 0)
    c.fail('file/format', 'rows are not whole blocks', {
      ...where,
      expected: `a multiple of ${type.blockSize} for ${type.name}`,
      found: row,
    });
  const count = countOf(shape);
  const bytes = count === null ? null : mulSafe(count / type.blockSize, type.blockBytes);
  if (bytes === null) return c.fail('file/limit', 'the shape is too large', { ...where, found: shape.join(' x ') });
  const offsetAt = c.at;
  const offset = c.view.getBigUint64(c.take(8, 'a tensor'), true);
  if (offset !== BigInt(next))
    c.fail('file/format', 'a tensor is not where it should be', { ...where, offset: offsetAt, expected: next, found: offset });
  return { name, entry: { type, shape, start: next, bytes } };
}

/**
 * @param bytes the first bytes of the file
 * @param size the file's size
 * @throws NeedMore when the header goes on beyond `bytes`
 */
export function parseGgufHeader(bytes: Uint8Array, size: number, file: string): GgufHeader {
  const c = createCursor(bytes, size, file);
  const magic = c.u32('the magic');
  if (magic !== 0x46554747) c.fail('file/format', 'the magic is wrong', { offset: 0, expected: 'GGUF', hint: 'This is not a GGUF file.' });
  const version = c.u32('the version');
  if (version < 1 || version > 3) {
    const hint =
      version !== 0 && version % 0x1000000 === 0
        ? 'This file is big-endian; lmq reads little-endian files.'
        : 'Update lmq, or get a file of version 3.';
    c.fail('file/format', 'unknown version', { offset: 4, expected: '1, 2 or 3', found: version, hint });
  }
  c.wide = version > 1;
  const word = c.wide ? 8 : 4;
  const tensorCount = c.count('the tensor count');
  const entryCount = c.count('the key count');
  if (tensorCount > GGUF_LIMITS.tensors)
    c.fail('file/limit', 'there are too many tensors', { offset: 8, expected: `at most ${GGUF_LIMITS.tensors}`, found: tensorCount });
  if (entryCount > GGUF_LIMITS.keyValues)
    c.fail('file/limit', 'there are too many keys', { offset: 8 + word, expected: `at most ${GGUF_LIMITS.keyValues}`, found: entryCount });
  c.fits(entryCount, word + 1 + 4 + 1, 'its keys');
  const { entries, alignmentAt } = readEntries(c, entryCount);
  const alignment = alignmentOf(c, entries, alignmentAt);

  c.fits(tensorCount, word + 1 + 4 + 4 + 8, 'its tensors');
  const tensors = new Map<string, GgufTensorEntry>();
  let next = 0;
  let dataEnd = 0;
  for (let i = 0; i < tensorCount; i++) {
    const at = c.at;
    const { name, entry } = readTensor(c, tensors, next);
    tensors.set(name, entry);
    dataEnd = entry.start + entry.bytes;
    next = roundUp(dataEnd, alignment);
    if (!Number.isSafeInteger(next)) c.fail('file/limit', 'the tensors are too large', { offset: at, tensor: name });
  }
  const dataStart = roundUp(c.at, alignment);
  checkEnd(c, tensors, dataStart, dataEnd, alignment);
  for (const t of tensors.values()) t.start = Math.min(t.start + dataStart, size); // an empty one may begin behind the end: padding is missing
  return { version, alignment, entries: [...entries.values()], tensors };
}

/** All data lies in the file, and nothing but padding follows it. Some writers leave out the last tensor's padding. */
function checkEnd(c: Cursor, tensors: Map<string, GgufTensorEntry>, dataStart: number, dataEnd: number, alignment: number): void {
  const least = dataEnd === 0 ? c.at : dataStart + dataEnd;
  const most = dataStart + roundUp(dataEnd, alignment);
  if (c.size < least) {
    const cut = [...tensors].find(([, t]) => dataStart + t.start + t.bytes > c.size)!;
    const facts = {
      offset: c.size,
      tensor: cut[0],
      expected: `${least} bytes`,
      found: `${c.size} bytes`,
      hint: 'Download the file again.',
    };
    c.fail('file/truncated', 'the file ends before its tensors do', facts);
  }
  if (c.size > most)
    c.fail('file/format', 'something follows the last tensor', { offset: most, expected: `${most} bytes`, found: `${c.size} bytes` });
}
