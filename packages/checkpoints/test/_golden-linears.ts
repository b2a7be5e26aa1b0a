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

export interface BnbCase {
  type: 'nf4' | 'fp4' | 'int8';
  out: number;
  in: number;
  block: number;
  double: boolean;
  dtype: 'float32' | 'float16' | 'bfloat16';
  /** FNV-1a of the decoded weights in `dtype`; of int8 the weights, base64 of float32. */
  weight: string;
}

export const bnbCases = goldenLinears<BnbCase>('bitsandbytes');

export interface AutoRoundCase {
  /** `packing_format` of the configuration. */
  packing: string;
  bits: number;
  out: number;
  in: number;
  group: number;
  sym: boolean;
  /** FNV-1a of the weights' fp16 bits, [out, in]. */
  weight: string;
}

export const autoRoundCases = goldenLinears<AutoRoundCase>('auto_round');

export interface HqqCase {
  nbits: number;
  out: number;
  in: number;
  group: number;
  axis: 0 | 1;
  channelWise: boolean;
  dtype: 'float32' | 'float16' | 'bfloat16';
  viewAsFloat: boolean;
  /** FNV-1a of the weights in float32, as decoded in float32. */
  weight: string;
}

export const hqqCases = goldenLinears<HqqCase>('hqq');
