/**
 * Codes of 1 to 8 bits, one per byte ⇄ packed. The lowest bits of a byte come first; a code may straddle two bytes. Rows start on a byte,
 * a stream has no rows. Unused bits at the end are written as zero and ignored when read.
 * @module
 */
import { checkInteger, LmqError } from '@lmq/tensor';

/** Bytes of a packed row: `ceil(cols * bits / 8)`. */
export function rowBytes(cols: number, bits: number): number {
  return Math.ceil((cols * bits) / 8);
}

/**
 * Packs `codes` [rows, cols], one per byte, into rows of `rowBytes(cols, bits)` bytes.
 * @throws LmqError `argument/option` for bits outside 1 … 8, `argument/shape` for the wrong length, `argument/value` for a code that
 * needs more bits
 */
export function packRows(codes: Uint8Array, bits: number, rows: number, cols: number): Uint8Array {
  checkInteger(bits, 'bits', 1, 8, 'packRows');
  if (codes.length !== rows * cols) wrong('packRows', 'codes do not fill the rows', `${rows} x ${cols}`, codes.length);
  const step = rowBytes(cols, bits);
  const out = new Uint8Array(rows * step);
  for (let r = 0; r < rows; r++) packInto(codes, r * cols, cols, bits, out, r * step, 'packRows');
  return out;
}

/**
 * Unpacks rows to one code per byte, [rows, cols].
 * @param out receives the codes; default a new array
 * @throws LmqError `argument/option` for bits outside 1 … 8, `argument/shape` for wrong lengths
 */
export function unpackRows(
  packed: Uint8Array,
  bits: number,
  rows: number,
  cols: number,
  out: Uint8Array = new Uint8Array(rows * cols),
): Uint8Array {
  checkInteger(bits, 'bits', 1, 8, 'unpackRows');
  const step = rowBytes(cols, bits);
  if (packed.length !== rows * step) wrong('unpackRows', 'packed has the wrong length', rows * step, packed.length);
  if (out.length < rows * cols) wrong('unpackRows', 'out is too short', `at least ${rows * cols}`, out.length);
  for (let r = 0; r < rows; r++) unpackInto(packed, r * step, 0, bits, cols, out, r * cols);
  return out;
}

/**
 * Packs values, one per byte, into one stream of `ceil(values.length * bits / 8)` bytes.
 * @throws LmqError `argument/option` for bits outside 1 … 8, `argument/value` for a value that needs more bits
 */
export function packStream(values: Uint8Array, bits: number): Uint8Array {
  checkInteger(bits, 'bits', 1, 8, 'packStream');
  const out = new Uint8Array(rowBytes(values.length, bits));
  packInto(values, 0, values.length, bits, out, 0, 'packStream');
  return out;
}

/**
 * Unpacks `count` values of a stream, from value `start` (default 0), to one per byte.
 * @param out receives them from its start; default a new array
 * @throws LmqError `argument/option` for bits outside 1 … 8, `argument/shape` when the stream or `out` is too short
 */
export function unpackStream(
  packed: Uint8Array,
  bits: number,
  count: number,
  out: Uint8Array = new Uint8Array(count),
  start = 0,
): Uint8Array {
  checkInteger(bits, 'bits', 1, 8, 'unpackStream');
  const need = rowBytes(start + count, bits);
  if (packed.length < need) wrong('unpackStream', 'the stream is too short', `at least ${need} bytes`, packed.length);
  if (out.length < count) wrong('unpackStream', 'out is too short', `at least ${count}`, out.length);
  const bit = start * bits;
  unpackInto(packed, Math.floor(bit / 8), bit % 8, bits, count, out, 0);
  return out;
}

/** Packs `count` codes into `out` from byte `to`. `out` is zero there. */
function packInto(codes: Uint8Array, from: number, count: number, bits: number, out: Uint8Array, to: number, op: string): void {
  let seen = 0; // all codes together: one check after the loop instead of one per code
  let i = from;
  const end = from + count;
  if (bits === 8) {
    out.set(codes.subarray(from, end), to);
    return;
  }
  if (bits === 4) {
    for (; i + 2 <= end; i += 2) {
      const a = codes[i];
      const b = codes[i + 1];
      seen |= a | b;
      out[to++] = a | (b << 4);
    }
  } else if (bits === 2) {
    for (; i + 4 <= end; i += 4) {
      const a = codes[i];
      const b = codes[i + 1];
      const c = codes[i + 2];
      const d = codes[i + 3];
      seen |= a | b | c | d;
      out[to++] = a | (b << 2) | (c << 4) | (d << 6);
    }
  }
  let held = 0; // bits not yet written, lowest first
  let holds = 0;
  for (; i < end; i++) {
    const code = codes[i];
    seen |= code;
    held |= code << holds;
    holds += bits;
    if (holds >= 8) {
      out[to++] = held;
      held >>>= 8;
      holds -= 8;
    }
  }
  if (holds > 0) out[to] = held;
  if (seen >>> bits !== 0) {
    const at = codes.findIndex((c, k) => k >= from && k < end && c >>> bits !== 0);
    throw new LmqError('argument/value', `code ${at} needs more than ${bits} bits`, {
      op,
      expected: `0 … ${2 ** bits - 1}`,
      found: codes[at],
    });
  }
}

/** Unpacks `count` codes that begin `skip` bits (0 … 7) into byte `from`. Nothing is checked. */
export function unpackInto(packed: Uint8Array, from: number, skip: number, bits: number, count: number, out: Uint8Array, to: number): void {
  let at = from;
  let i = to;
  const end = to + count;
  if (skip === 0) {
    if (bits === 8) {
      out.set(packed.subarray(at, at + count), to);
      return;
    }
    if (bits === 4) {
      for (; i + 2 <= end; i += 2) {
        const b = packed[at++];
        out[i] = b & 15;
        out[i + 1] = b >>> 4;
      }
    } else if (bits === 2) {
      for (; i + 4 <= end; i += 4) {
        const b = packed[at++];
        out[i] = b & 3;
        out[i + 1] = (b >>> 2) & 3;
        out[i + 2] = (b >>> 4) & 3;
        out[i + 3] = b >>> 6;
      }
    }
  }
  if (i >= end) return;
  const mask = 2 ** bits - 1;
  let held = packed[at++] >>> skip;
  let holds = 8 - skip;
  for (; i < end; i++) {
    if (holds < bits) {
      held |= packed[at++] << holds;
      holds += 8;
    }
    out[i] = held & mask;
    held >>>= bits;
    holds -= bits;
  }
}

function wrong(op: string, what: string, expected: unknown, found: unknown): never {
  throw new LmqError('argument/shape', what, { op, expected, found });
}
