/**
 * Stored floats as typed arrays and back, bit for bit. Both formats are little-endian, and so is every machine JavaScript runs on today.
 * @module
 */
import type { Dense, FloatData, FloatFormat } from '@lmq/tensor';
import { asMatrix } from './_checks.js';

/** The bytes as a typed array: the same memory when it is aligned, else a copy. */
export function typedView<T extends Float32Array | Uint16Array | Int32Array | Uint32Array>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; readonly BYTES_PER_ELEMENT: number },
): T {
  const step = type.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % step === 0 ? bytes : bytes.slice();
  return new type(aligned.buffer, aligned.byteOffset, aligned.byteLength / step);
}

/** Float32Array for fp32, Uint16Array of bits for fp16 and bf16. */
export function floatData(bytes: Uint8Array, format: FloatFormat): FloatData {
  return format === 'fp32' ? typedView(bytes, Float32Array) : typedView(bytes, Uint16Array);
}

/** The memory of a typed array as bytes, without copying. */
export function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A dense tensor over stored bytes; any rank becomes a matrix. */
export function denseOf(bytes: Uint8Array, format: FloatFormat, shape: readonly number[]): Dense {
  return { kind: 'dense', shape: asMatrix(shape), format, data: floatData(bytes, format) };
}
