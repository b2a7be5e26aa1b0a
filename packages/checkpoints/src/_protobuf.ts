/**
 * Writing protocol buffers: a message is its fields one after the other, each a key (number and wire type) and a value. Source: the encoding
 * guide of protobuf.dev.
 * @module
 */
import { concat } from './_concat.js';

const utf8 = new TextEncoder();

/** Wire types that ONNX uses. */
export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/**
 * One field: an integer (`number` or, beyond 2^53, `bigint`; negative ones take ten bytes), text, or the bytes of a string, a packed list or
 * another message.
 */
export type ProtoField = readonly [field: number, value: number | bigint | string | Uint8Array];

/** The bytes of a message. */
export function protoMessage(fields: readonly ProtoField[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [field, value] of fields) {
    if (typeof value === 'number' || typeof value === 'bigint') {
      parts.push(varint(BigInt(field * 8 + VARINT)), varint(BigInt(value)));
    } else {
      const bytes = typeof value === 'string' ? utf8.encode(value) : value;
      parts.push(varint(BigInt(field * 8 + BYTES)), varint(BigInt(bytes.length)), bytes);
    }
  }
  return concat(parts);
}

/** A field of type float. */
export function protoFloat(field: number, value: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = field * 8 + FIXED32;
  new DataView(out.buffer).setFloat32(1, value, true);
  return out;
}

function varint(value: bigint): Uint8Array {
  let rest = BigInt.asUintN(64, value);
  const bytes: number[] = [];
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
