/**
 * Buffers of the plain backend: typed arrays, left to the garbage collector.
 * @module
 */
import { type HandleType, LmqError, type Mat } from '@lmq/tensor';

/** float32 or bytes. */
export type JsBuffer = Float32Array | Uint8Array;

/**
 * A zero-filled buffer.
 * @throws LmqError `backend/memory` when the engine cannot allocate it
 */
export function allocate(type: HandleType, length: number): JsBuffer {
  try {
    return type === 'f32' ? new Float32Array(length) : new Uint8Array(length);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new LmqError('backend/memory', 'out of memory', {
      op: 'alloc',
      found: `${length} elements of ${type}`,
      hint: 'Use smaller batches, or free handles earlier.',
      cause,
    });
  }
}

/** Copies row-major `data` into a matrix. */
export function write(to: Mat<JsBuffer>, _type: HandleType, data: JsBuffer): void {
  const { rows, cols, offset, stride } = to;
  if (stride === cols) to.buffer.set(data, offset);
  else for (let r = 0; r < rows; r++) to.buffer.set(data.subarray(r * cols, (r + 1) * cols), offset + r * stride);
}

/** Copies a matrix out, row-major. */
export async function read(from: Mat<JsBuffer>, type: HandleType): Promise<JsBuffer> {
  const { rows, cols, offset, stride, buffer } = from;
  const data = allocate(type, rows * cols);
  for (let r = 0; r < rows; r++) data.set(buffer.subarray(offset + r * stride, offset + r * stride + cols), r * cols);
  return data;
}

/** Copies a matrix into another of the same shape. */
export function copy(to: Mat<JsBuffer>, from: Mat<JsBuffer>): void {
  for (let r = 0; r < from.rows; r++) {
    const at = from.offset + r * from.stride;
    to.buffer.set(from.buffer.subarray(at, at + from.cols), to.offset + r * to.stride);
  }
}
