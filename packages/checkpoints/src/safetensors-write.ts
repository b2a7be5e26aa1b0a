/**
 * Writing safetensors: one tensor's bytes in memory at a time. The header is the one that the reference crate writes: tensors sorted by
 * falling dtype, then by name, padded with spaces to 8 bytes.
 * @module
 */
import { type Dense, LmqError } from '@lmq/tensor';
import { countOf, fail, isReserved, MAX_DIM, MAX_RANK, mulSafe, roundUp } from './_checks.js';
import { DTYPES, dtypeRank, FLOAT_DTYPES } from './_dtypes.js';
import { bytesOf } from './_floats.js';
import { isTensorName, MAX_HEADER_BYTES } from './_safetensors-header.js';
import type { ByteSink, TensorToWrite } from './api.js';

const OP = 'writeSafetensors';

/** Bytes that a tensor takes in a safetensors file. @throws LmqError `argument/value`, `argument/shape` */
export function safetensorsBytes(t: TensorToWrite): number {
  const type = DTYPES.get(t.dtype);
  if (!type)
    return fail('argument/value', 'unknown dtype', { op: OP, tensor: t.name, expected: [...DTYPES.keys()].join(', '), found: t.dtype });
  const ok = t.shape.length <= MAX_RANK && t.shape.every((d) => Number.isInteger(d) && d >= 0 && d <= MAX_DIM);
  const count = ok ? countOf(t.shape) : null;
  const bits = count === null ? null : mulSafe(count, type.bits);
  if (bits === null || bits % 8 !== 0)
    return fail('argument/shape', 'the shape cannot be stored', { op: OP, tensor: t.name, found: `${t.dtype} [${t.shape.join(', ')}]` });
  return bits / 8;
}

/** Order of UTF-8 bytes, which differs from that of UTF-16 units where surrogates meet the top of the basic plane. */
function byName(a: string, b: string): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const key = (c: number) => (c >= 0xe000 ? c - 0x800 : c >= 0xd800 ? c + 0x2000 : c);
    return key(x) - key(y);
  }
  return a.length - b.length;
}

/** The header's bytes, length word and padding included, and the tensors in file order. */
function layOut(
  tensors: readonly TensorToWrite[],
  metadata: Record<string, string>,
): { header: Uint8Array; order: TensorToWrite[]; bytes: number } {
  const order = [...tensors].sort((a, b) => dtypeRank(b.dtype) - dtypeRank(a.dtype) || byName(a.name, b.name));
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort(byName);
  for (const key of keys) {
    if (isReserved(key)) fail('argument/value', 'a metadata key is a reserved name', { op: OP, found: key });
    if (typeof metadata[key] !== 'string')
      fail('argument/value', 'metadata values are strings', { op: OP, found: `${key}: ${typeof metadata[key]}` });
  }
  if (keys.length) parts.push(`"__metadata__":{${keys.map((k) => `${JSON.stringify(k)}:${JSON.stringify(metadata[k])}`).join(',')}}`);
  const seen = new Set<string>();
  let at = 0;
  for (const t of order) {
    if (!isTensorName(t.name)) fail('argument/value', 'a tensor has a name that no file may hold', { op: OP, tensor: t.name });
    if (seen.has(t.name)) fail('argument/value', 'two tensors have one name', { op: OP, tensor: t.name });
    seen.add(t.name);
    const end = at + safetensorsBytes(t);
    parts.push(`${JSON.stringify(t.name)}:{"dtype":"${t.dtype}","shape":[${t.shape.join(',')}],"data_offsets":[${at},${end}]}`);
    at = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const padded = roundUp(json.length, 8);
  if (padded > MAX_HEADER_BYTES)
    fail('argument/value', 'the header would be too long', {
      op: OP,
      expected: `at most ${MAX_HEADER_BYTES} bytes`,
      found: padded,
      hint: 'Write several files.',
    });
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return { header, order, bytes: header.length + at };
}

/**
 * Writes tensors as one safetensors file. Each tensor's `bytes()` is called once, in file order, and may be freed afterwards.
 * @param metadata the `__metadata__` object, strings only
 * @returns bytes written
 * @throws LmqError `argument/*` for names, shapes or data that no file can hold, before anything of that tensor is written
 */
export async function writeSafetensors(
  sink: ByteSink,
  tensors: readonly TensorToWrite[],
  metadata: Record<string, string> = {},
): Promise<number> {
  const { header, order, bytes } = layOut(tensors, metadata);
  await sink.write(header);
  for (const t of order) {
    const data = await t.bytes();
    const expected = safetensorsBytes(t);
    if (data.byteLength !== expected) {
      throw new LmqError('argument/value', 'the data is not as long as its shape says', {
        op: OP,
        tensor: t.name,
        expected: `${expected} bytes`,
        found: `${data.byteLength} bytes`,
      });
    }
    if (expected) await sink.write(data);
  }
  return bytes;
}

/** A dense tensor as a safetensors tensor, bits unchanged. `shape` is that of the original checkpoint, e.g. `[4096]` for a norm. */
export function toSafetensors(name: string, t: Dense, shape: readonly number[] = t.shape): TensorToWrite {
  if (countOf(shape) !== t.data.length)
    fail('argument/shape', 'the shape does not hold the data', {
      op: 'toSafetensors',
      tensor: name,
      expected: `${t.data.length} elements`,
      found: `[${shape.join(', ')}]`,
    });
  return { name, shape: [...shape], dtype: FLOAT_DTYPES[t.format], bytes: () => bytesOf(t.data) };
}
