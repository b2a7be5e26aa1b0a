/**
 * Reading protocol buffers from a source, a message at a time: fields are told with the range of their bytes, which need not be read. So a
 * file of any length is looked through in the memory of one piece.
 * @module
 */
import { fail } from './_checks.js';
import { BYTES, FIXED32, FIXED64, VARINT } from './_protobuf.js';
import type { ByteSource } from './api.js';

const PIECE = 64 * 1024;
/** Longest text that a reader takes: names, not contents. */
const MAX_TEXT_BYTES = 65_535;
/** A key and a length or value. */
const MAX_HEAD_BYTES = 20;

const utf8 = new TextDecoder('utf-8', { fatal: true });

export interface ProtoSpan {
  /** Offsets of the contents in the source. */
  from: number;
  to: number;
}

export interface ReadField extends ProtoSpan {
  field: number;
  /** Wire type: see `_protobuf.ts`. */
  wire: number;
  /** Of a varint; NaN for what is negative or beyond 2^53. */
  value: number;
}

export interface ProtoReader {
  /** Tells every field of a message, in order. @throws LmqError `file/format`, `file/truncated` */
  fields(message: ProtoSpan, visit: (field: ReadField) => void | Promise<void>): Promise<void>;
  /** A string. @throws LmqError `file/format` unless it is UTF-8, `file/limit` when it is too long */
  text(field: ReadField): Promise<string>;
  /** Appends a repeated integer, which may come alone or as a packed list. @throws LmqError `file/limit` for more than `most` */
  integers(field: ReadField, into: number[], most: number): Promise<void>;
}

export function createProtoReader(source: ByteSource, op: string): ProtoReader {
  const file = source.name;
  const broken = (what: string, offset: number, expected?: unknown, found?: unknown): never =>
    fail('file/format', what, { op, file, offset, ...(expected !== undefined && { expected, found }) });
  let start = 0;
  let piece: Uint8Array = new Uint8Array(0);
  const holds = (at: number, n: number) => at >= start && at + n <= start + piece.length;
  const load = async (at: number, n: number): Promise<void> => {
    piece = await source.read(at, Math.min(Math.max(n, PIECE), source.size - at));
    start = at;
  };
  let at = 0; // of the next byte, which the piece holds

  /** The varint at `at`, which must end before `to`. */
  const varint = (to: number): number => {
    const from = at;
    let value = 0;
    for (let scale = 1; at < to && at < from + 10; scale *= 128) {
      const byte = piece[at++ - start]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value <= Number.MAX_SAFE_INTEGER ? value : Number.NaN;
    }
    return broken('an integer does not end', from);
  };

  const reader: ProtoReader = {
    async fields({ from, to }, visit) {
      for (let next = from; next < to; ) {
        const head = Math.min(MAX_HEAD_BYTES, to - next);
        if (!holds(next, head)) await load(next, head);
        at = next;
        const key = varint(to);
        const [field, wire] = [Math.floor(key / 8), key % 8];
        if (!(field >= 1 && field < 2 ** 29)) broken('a field has no number', next, '1 … 536870911', field);
        const found: ReadField = { field, wire, value: Number.NaN, from: at, to: at };
        if (wire === VARINT) {
          found.value = varint(to);
          found.to = at;
        } else if (wire === BYTES) {
          const length = varint(to);
          found.from = at;
          found.to = at + length;
        } else if (wire === FIXED32 || wire === FIXED64) found.to = at + (wire === FIXED32 ? 4 : 8);
        else broken('a field is of no known kind', next, 'wire type 0, 1, 2 or 5', wire);
        if (!(found.to <= to)) {
          const facts = { op, file, offset: next, expected: `at most ${to - found.from} bytes`, found: `${found.to - found.from} bytes` };
          if (to === source.size) fail('file/truncated', 'the file ends too early', { ...facts, hint: 'Download the file again.' });
          fail('file/format', 'a field is longer than its message', facts);
        }
        await visit(found);
        next = found.to;
      }
    },
    async text({ from, to, wire }) {
      if (wire !== BYTES) return broken('a text is not stored as bytes', from);
      if (to - from > MAX_TEXT_BYTES)
        return fail('file/limit', 'a text is too long', { op, file, offset: from, expected: `${MAX_TEXT_BYTES} bytes`, found: to - from });
      if (!holds(from, to - from)) await load(from, to - from);
      try {
        return utf8.decode(piece.subarray(from - start, to - start));
      } catch {
        return broken('a text is not valid UTF-8', from);
      }
    },
    async integers({ from, to, wire, value }, into, most) {
      const room = () => {
        if (into.length >= most) fail('file/limit', 'a list is too long', { op, file, offset: from, expected: `at most ${most} items` });
      };
      if (wire === VARINT) {
        room();
        into.push(value);
      } else if (wire === BYTES) {
        for (let next = from; next < to; next = at) {
          room();
          const head = Math.min(10, to - next);
          if (!holds(next, head)) await load(next, head);
          at = next;
          into.push(varint(to));
        }
      } else broken('a list of integers is of another kind', from);
    },
  };
  return reader;
}
