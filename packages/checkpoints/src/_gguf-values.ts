/**
 * Types of GGUF key-values: ids, sizes, typed arrays (ggml docs/gguf.md).
 * @module
 */
import type { GgufScalar } from './api.js';

type NumberArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array;
interface NumberArrayType {
  new (buffer: ArrayBufferLike): NumberArray;
  from(values: ArrayLike<number>): NumberArray;
}

export interface ValueType {
  id: number;
  name: GgufScalar;
  /** Bytes of one value; of a string, the least that one takes (its length word). */
  bytes: number;
  /** Set where an array becomes a typed array. */
  array?: NumberArrayType;
  /** Bounds of integers. */
  min?: bigint;
  max?: bigint;
}

const integer = (id: number, name: GgufScalar, bytes: number, signed: boolean, array?: NumberArrayType): ValueType => {
  const bits = BigInt(bytes * 8);
  const type: ValueType = { id, name, bytes, min: signed ? -(1n << (bits - 1n)) : 0n, max: (1n << (signed ? bits - 1n : bits)) - 1n };
  if (array) type.array = array;
  return type;
};

const LIST: readonly ValueType[] = [
  integer(0, 'u8', 1, false, Uint8Array),
  integer(1, 'i8', 1, true, Int8Array),
  integer(2, 'u16', 2, false, Uint16Array),
  integer(3, 'i16', 2, true, Int16Array),
  integer(4, 'u32', 4, false, Uint32Array),
  integer(5, 'i32', 4, true, Int32Array),
  { id: 6, name: 'f32', bytes: 4, array: Float32Array },
  { id: 7, name: 'bool', bytes: 1 },
  { id: 8, name: 'string', bytes: 8 },
  integer(10, 'u64', 8, false),
  integer(11, 'i64', 8, true),
  { id: 12, name: 'f64', bytes: 8, array: Float64Array },
];

/** Id of an array value. */
export const ARRAY_ID = 9;
export const VALUE_TYPES_BY_ID: ReadonlyMap<number, ValueType> = new Map(LIST.map((t) => [t.id, t]));
export const VALUE_TYPES: ReadonlyMap<string, ValueType> = new Map(LIST.map((t) => [t.name, t]));

/** Deepest nesting of arrays. */
export const MAX_ARRAY_DEPTH = 4;
export const MAX_KEY_BYTES = 65_535;
export const MAX_NAME_BYTES = 63;
export const MAX_GGUF_RANK = 4;

/** True for keys that a GGUF file may hold: 1 … 65535 printable ASCII characters without space. */
export function isGgufKey(key: string): boolean {
  return /^[\x21-\x7e]+$/.test(key) && key.length <= MAX_KEY_BYTES;
}
