// Builds model files by hand, byte by byte, independent of the writers under test.
import { type ErrorCode, isLmqError, type LmqError } from '@lmq/tensor';
import { expect } from 'vitest';
import { memorySource } from '../src/sources.js';

export const source = (bytes: Uint8Array, name = 'test file') => memorySource(bytes, name);

export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export const utf8 = (s: string) => new TextEncoder().encode(s);

export function le(value: number | bigint, size: number): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return out.slice(0, size);
}

/** A safetensors file from the text of its header and its data. */
export function safetensors(header: string, data: Uint8Array | number, headerLength?: number | bigint): Uint8Array {
  const json = utf8(header);
  return concat(le(headerLength ?? json.length, 8), json, typeof data === 'number' ? new Uint8Array(data) : data);
}

export const str = (s: string) => concat(le(utf8(s).length, 8), utf8(s));

export interface RawTensor {
  name: string;
  /** Fastest first, as in the file. */
  dims: (number | bigint)[];
  type: number;
  offset: number | bigint;
}

export const tensorInfo = (t: RawTensor) =>
  concat(str(t.name), le(t.dims.length, 4), ...t.dims.map((d) => le(d, 8)), le(t.type, 4), le(t.offset, 8));

export interface RawGguf {
  magic?: string;
  version?: number;
  tensorCount?: number | bigint;
  keyCount?: number | bigint;
  keys?: Uint8Array[];
  tensors?: RawTensor[];
  alignment?: number;
  data?: number;
}

/** A GGUF file; counts may lie. `starts` has the byte of each key and tensor entry, and of the data. */
export function gguf(f: RawGguf): { bytes: Uint8Array; keyAt: number[]; tensorAt: number[]; dataAt: number } {
  const keys = f.keys ?? [];
  const tensors = (f.tensors ?? []).map(tensorInfo);
  const head = concat(
    utf8(f.magic ?? 'GGUF'),
    le(f.version ?? 3, 4),
    le(f.tensorCount ?? tensors.length, 8),
    le(f.keyCount ?? keys.length, 8),
  );
  let at = head.length;
  const place = (p: Uint8Array) => {
    const from = at;
    at += p.length;
    return from;
  };
  const keyAt = keys.map(place);
  const tensorAt = tensors.map(place);
  const alignment = f.alignment ?? 32;
  const dataAt = Math.ceil(at / alignment) * alignment;
  const bytes = concat(head, ...keys, ...tensors, new Uint8Array(dataAt - at), new Uint8Array(f.data ?? 0));
  return { bytes, keyAt, tensorAt, dataAt };
}

export const kv = (key: string, type: number, value: Uint8Array) => concat(str(key), le(type, 4), value);

/** Runs and returns the LmqError; any other outcome fails the test. */
export async function failure(run: () => unknown): Promise<LmqError> {
  try {
    await run();
  } catch (e) {
    if (isLmqError(e)) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}

export async function expectFailure(run: () => unknown, code: ErrorCode, facts: Record<string, unknown> = {}): Promise<LmqError> {
  const e = await failure(run);
  expect({ code: e.code, ...Object.fromEntries(Object.keys(facts).map((k) => [k, (e.facts as Record<string, unknown>)[k]])) }).toEqual({
    code,
    ...facts,
  });
  return e;
}
