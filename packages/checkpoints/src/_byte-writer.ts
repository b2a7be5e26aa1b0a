/**
 * A growing buffer of little-endian numbers and length-prefixed strings.
 * @module
 */

export interface ByteWriter {
  /** `size` low bytes of a two's complement integer. */
  integer(value: bigint, size: number): void;
  f32(value: number): void;
  f64(value: number): void;
  /** u64 length and UTF-8 bytes. */
  string(text: string): void;
  /** Bytes as they are. */
  raw(bytes: Uint8Array): void;
  /** Everything written so far. */
  bytes(): Uint8Array;
}

export function createByteWriter(): ByteWriter {
  const utf8 = new TextEncoder();
  let buffer = new Uint8Array(4096);
  let view = new DataView(buffer.buffer);
  let length = 0;
  const room = (n: number): number => {
    if (length + n > buffer.length) {
      const larger = new Uint8Array(Math.max(buffer.length * 2, length + n));
      larger.set(buffer.subarray(0, length));
      buffer = larger;
      view = new DataView(buffer.buffer);
    }
    const at = length;
    length += n;
    return at;
  };
  const integer = (value: bigint, size: number) => {
    const at = room(size);
    if (size === 8) view.setBigInt64(at, BigInt.asIntN(64, value), true);
    else if (size === 4) view.setInt32(at, Number(BigInt.asIntN(32, value)), true);
    else if (size === 2) view.setInt16(at, Number(BigInt.asIntN(16, value)), true);
    else view.setInt8(at, Number(BigInt.asIntN(8, value)));
  };
  return {
    integer,
    f32(value) {
      const at = room(4); // first: it may replace the view
      view.setFloat32(at, value, true);
    },
    f64(value) {
      const at = room(8);
      view.setFloat64(at, value, true);
    },
    string(text) {
      const bytes = utf8.encode(text);
      integer(BigInt(bytes.length), 8);
      const at = room(bytes.length);
      buffer.set(bytes, at);
    },
    raw(bytes) {
      const at = room(bytes.length);
      buffer.set(bytes, at);
    },
    bytes: () => buffer.slice(0, length),
  };
}
