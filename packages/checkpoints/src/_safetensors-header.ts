/**
 * The header of a safetensors file, read strictly: the rules of the reference crate (safetensors/src/tensor.rs: contiguous spans that cover
 * the file exactly, checked products) and of its README (no duplicate keys, string metadata), plus bounds on rank and extents.
 * @module
 */
import type { ErrorFacts } from '@lmq/tensor';
import { countOf, fail, isReserved, MAX_DIM, MAX_RANK, mulSafe } from './_checks.js';
import { DTYPES } from './_dtypes.js';
import { createJsonReader, type JsonReader } from './_json.js';

/** Largest header that is read, as in the reference crate. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Most tensors of one file. A real model has half as many in all its shards. */
export const MAX_TENSORS = 1_000_000;

const OP = 'openSafetensors';

export interface HeaderEntry {
  dtype: string;
  shape: number[];
  /** Bytes from the start of the data section. */
  begin: number;
  end: number;
  /** Byte of the file where the header names it. */
  at: number;
}

export interface Header {
  entries: Map<string, HeaderEntry>;
  metadata: Map<string, string>;
}

/** @param json the header's bytes; the data section begins at 8 + json.length and ends at `fileSize` */
export function parseSafetensorsHeader(json: Uint8Array, file: string, fileSize: number): Header {
  const reader = createJsonReader(json, { op: OP, file, base: 8 });
  const header: Header = { entries: new Map(), metadata: new Map() };
  if (json[0] !== 0x7b) reader.fail('the header is not a JSON object', { expected: '{', hint: 'This is not a safetensors file.' });
  const { entries } = header;
  let hasMetadata = false;
  reader.object(
    (name, at) => {
      if (name === '__metadata__') {
        hasMetadata = true;
        readMetadata(reader, header.metadata);
        return;
      }
      if (entries.size >= MAX_TENSORS)
        fail('file/limit', 'there are too many tensors', { op: OP, file, offset: at, expected: `at most ${MAX_TENSORS}` });
      entries.set(name, readEntry(reader, name, at, file));
    },
    (name) => (name === '__metadata__' ? hasMetadata : entries.has(name)),
  );
  reader.end();
  checkCover(header.entries, file, 8 + json.length, fileSize);
  return header;
}

function readMetadata(reader: JsonReader, into: Map<string, string>): void {
  reader.object((key) => {
    into.set(key, reader.string());
  });
}

interface Fields {
  dtype: string;
  shape: number[];
  offsets: number[];
}

/** Counts up to the closing bracket, or `undefined` when they are more than `max` or not written as the usual writers do. */
function plainCounts(reader: JsonReader, max: number): number[] | undefined {
  const out: number[] = [];
  if (reader.literal(']')) return out;
  do {
    if (out.length >= max) return undefined;
    out.push(reader.count());
  } while (reader.literal(','));
  return reader.literal(']') ? out : undefined;
}

/**
 * The fields of an entry as the usual writers put them, in their order and without white space: no keys to decode and to compare, which
 * saves a third of the time that a header of 300 000 tensors takes. `undefined` for every other spelling.
 */
function plainFields(reader: JsonReader): Fields | undefined {
  if (!reader.literal('{"dtype":')) return undefined;
  const dtype = reader.string();
  const shape = reader.literal(',"shape":[') ? plainCounts(reader, MAX_RANK) : undefined;
  const offsets = shape && reader.literal(',"data_offsets":[') ? plainCounts(reader, 2) : undefined;
  return shape && offsets && reader.literal('}') ? { dtype, shape, offsets } : undefined;
}

/** The fields in any spelling that JSON allows. */
function anyFields(reader: JsonReader, tensor: string, where: ErrorFacts): Fields {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  const counts = (max: number, what: string): number[] => {
    const out: number[] = [];
    reader.array(() => {
      if (out.length >= max) reader.fail(`${what} has too many numbers`, { tensor, expected: `at most ${max}` });
      out.push(reader.count());
    });
    return out;
  };
  reader.object((key, offset) => {
    if (key === 'dtype') dtype = reader.string();
    else if (key === 'shape') shape = counts(MAX_RANK, 'the shape');
    else if (key === 'data_offsets') offsets = counts(2, 'data_offsets');
    else fail('file/format', 'a tensor has an unknown field', { ...where, offset, expected: 'dtype, shape, data_offsets', found: key });
  });
  if (dtype === undefined || shape === undefined || offsets === undefined)
    return fail('file/format', 'a tensor lacks a field', { ...where, expected: 'dtype, shape and data_offsets' });
  return { dtype, shape, offsets };
}

function readEntry(reader: JsonReader, tensor: string, at: number, file: string): HeaderEntry {
  const where = { op: OP, file, tensor, offset: at };
  if (tensor === '') fail('file/format', 'a tensor has no name', where);
  const start = reader.position();
  let fields = plainFields(reader);
  if (!fields) {
    reader.rewind(start);
    fields = anyFields(reader, tensor, where);
  }
  const { dtype, shape, offsets } = fields;
  if (offsets.length !== 2) fail('file/format', 'data_offsets is not a pair', { ...where, expected: 2, found: offsets.length });
  const type = DTYPES.get(dtype);
  if (!type)
    return fail('file/format', 'unknown dtype', { ...where, found: dtype, hint: 'The file is damaged or newer than this reader.' });
  const [begin, end] = offsets as [number, number];
  const wide = shape.find((d) => d > MAX_DIM);
  if (wide !== undefined) fail('file/limit', 'an axis is too long', { ...where, expected: `at most ${MAX_DIM}`, found: wide });
  const count = countOf(shape);
  const bits = count === null ? null : mulSafe(count, type.bits);
  if (bits === null) return fail('file/limit', 'the shape is too large', { ...where, found: shape.join(' x ') });
  if (bits % 8 !== 0) fail('file/format', 'the tensor does not end on a byte', { ...where, found: `${bits} bits` });
  if (end - begin !== bits / 8)
    fail('file/format', 'shape and data_offsets disagree', {
      ...where,
      expected: `${bits / 8} bytes of ${dtype}`,
      found: `${end - begin} bytes`,
    });
  return { dtype: type.name, shape, begin, end, at };
}

/** Sorted spans must be contiguous from 0 and end with the file: no overlap, no hole, nothing behind. */
function checkCover(entries: Map<string, HeaderEntry>, file: string, dataStart: number, fileSize: number): void {
  const sorted = [...entries];
  const inOrder = ([, a]: [string, HeaderEntry], [, b]: [string, HeaderEntry]) => a.begin - b.begin || a.end - b.end;
  if (sorted.some((e, i) => i > 0 && inOrder(sorted[i - 1]!, e) > 0)) sorted.sort(inOrder); // as a rule they are in order
  let at = 0;
  for (const [tensor, e] of sorted) {
    if (e.begin !== at) {
      const what = e.begin < at ? 'tensors overlap' : 'there is a hole between tensors';
      fail('file/format', what, {
        op: OP,
        file,
        tensor,
        offset: Math.min(dataStart + Math.min(at, e.begin), fileSize), // the hole may begin behind the end
        expected: `data at ${at}`,
        found: e.begin,
      });
    }
    at = e.end;
  }
  const size = dataStart + at;
  if (size > fileSize) {
    const facts = {
      op: OP,
      file,
      offset: fileSize,
      expected: `${size} bytes`,
      found: `${fileSize} bytes`,
      hint: 'Download the file again.',
    };
    const cut = sorted.find(([, e]) => dataStart + e.end > fileSize)!;
    fail('file/truncated', 'the file ends before its tensors do', { ...facts, tensor: cut[0] });
  }
  if (size < fileSize)
    fail('file/format', 'something follows the last tensor', { op: OP, file, offset: size, expected: size, found: fileSize });
}

/** Names that no writer may use and no reader takes. */
export function isTensorName(name: string): boolean {
  return name !== '' && name !== '__metadata__' && !isReserved(name);
}
