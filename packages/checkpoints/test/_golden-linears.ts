// Linears as the packages that define a format stored them, from the golden files.
import { readFileSync } from 'node:fs';
import type { Stored } from './_quantized.js';

type Raw = { tensors: Record<string, { dtype: string; shape: number[]; data: string }> };

export const base64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

/** The cases of `golden/<name>.json`, each with its tensors by part. */
export function goldenLinears<T extends object>(name: string): (T & { tensors: Record<string, Stored> })[] {
  const cases = JSON.parse(readFileSync(new URL(`./golden/${name}.json`, import.meta.url), 'utf8')) as (T & Raw)[];
  return cases.map((c) => ({
    ...c,
    tensors: Object.fromEntries(Object.entries(c.tensors).map(([part, t]) => [part, { ...t, data: base64(t.data) }])),
  }));
}

/** FNV-1a of the bytes of an array. */
export function fnv(data: ArrayBufferView): string {
  let h = 2166136261;
  for (const b of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h.toString(16).padStart(8, '0');
}
