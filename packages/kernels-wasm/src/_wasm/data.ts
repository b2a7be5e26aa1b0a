/**
 * Matrices in and out of the memory.
 * @module
 */
import type { HandleType } from '@lmq/tensor';
import { type Core, f32, u8, type WasmMat } from './core.js';

/** The array that a type lives in, and the index of a matrix's first element there. */
function place(
  { memory }: Core,
  mat: WasmMat,
  type: HandleType,
): { data: Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>; at: number } {
  return type === 'f32' ? { data: memory.f32(), at: f32(mat) / 4 } : { data: memory.u8(), at: u8(mat) };
}

/** Copies row-major `source` into a matrix. */
export function write(core: Core, to: WasmMat, type: HandleType, source: Float32Array | Uint8Array): void {
  const { rows, cols, stride } = to;
  const { data, at } = place(core, to, type);
  if (stride === cols) data.set(source, at);
  else for (let r = 0; r < rows; r++) data.set(source.subarray(r * cols, (r + 1) * cols), at + r * stride);
}

/** Copies a matrix out, row-major. */
export function read(core: Core, from: WasmMat, type: HandleType): Float32Array | Uint8Array {
  const { rows, cols, stride } = from;
  const { data, at } = place(core, from, type);
  if (stride === cols) return data.slice(at, at + rows * cols);
  const out = type === 'f32' ? new Float32Array(rows * cols) : new Uint8Array(rows * cols);
  for (let r = 0; r < rows; r++) out.set(data.subarray(at + r * stride, at + r * stride + cols), r * cols);
  return out;
}

/** Copies a matrix into another of the same shape. */
export function copy(core: Core, to: WasmMat, from: WasmMat, type: HandleType): void {
  const { data, at } = place(core, from, type);
  const { at: target } = place(core, to, type);
  for (let r = 0; r < from.rows; r++) data.copyWithin(target + r * to.stride, at + r * from.stride, at + r * from.stride + from.cols);
}
