/** Golden data of golden/floats.py: its inputs made again, and the hash that it keeps of outputs. */
import { readFileSync } from 'node:fs';
import type { MxScaleRule, Nvfp4ScaleRule } from '@lmq/formats';
import type { MinifloatFormat } from '@lmq/tensor';

type Scaled = { input: string; scales: string; codes?: string; values?: string };

interface Golden {
  floats: Record<MinifloatFormat, { values: (number | string)[]; beyond: string; saturated?: string }>;
  e8m0: string;
  tables: Record<string, number[]>;
  dynamic: { signed: string; unsigned: string };
  bitsandbytes: {
    table: 'nf4' | 'fp4';
    input: string;
    blockSize: number;
    packed: string;
    absmax: string;
    decoded: string;
    double: { offset: number; scales: string; nested: string; decoded: string };
  }[];
  blockwise: { signed: boolean; input: string; codes: string; absmax: string }[];
  mx: (Scaled & { format: MinifloatFormat; rule: MxScaleRule; source: string })[];
  nvfp4: (Scaled & { rule: Nvfp4ScaleRule; global: number; decoded?: string })[];
  packing: {
    format: string;
    bits: number;
    rows: number;
    cols: number;
    words: string;
    packing?: 'stream' | 'whole';
    along?: 'rows' | 'cols';
    group?: number;
    zeros?: string;
  }[];
}

export const golden: Golden = JSON.parse(readFileSync(new URL('./golden/floats.json', import.meta.url), 'utf8'));

/** FNV-1a of the bytes of an array. */
export function fnv(data: ArrayBufferView): string {
  let h = 2166136261;
  for (const b of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h.toString(16).padStart(8, '0');
}

export function lcg(seed: number, n: number): Uint32Array {
  let s = seed;
  return Uint32Array.from({ length: n }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s;
  });
}

/** Sums of three uniform numbers; every 16 columns times a power of two in 2^0 … 2^-spread. */
export function weights(seed: number, rows: number, cols: number, spread = 0): Float32Array {
  const u = lcg(seed, 3 * rows * cols).map((s) => s >>> 12);
  const perRow = Math.ceil(cols / 16);
  const powers = lcg(seed + 1, rows * perRow).map((s) => (s >>> 20) % (spread + 1));
  return Float32Array.from({ length: rows * cols }, (_, i) => {
    const x = Math.fround((u[3 * i]! + u[3 * i + 1]! + u[3 * i + 2]! - 1572864) / 2 ** 20 / 16);
    return x * 2 ** -powers[Math.floor(i / cols) * perRow + Math.floor((i % cols) / 16)]!;
  });
}

/** float32 of any bits, but for NaN and infinity, which become 0; every second one moved near 1. */
export function anything(seed: number, n: number): Float32Array {
  const bits = lcg(seed, n).map((b, i) => (i % 2 ? (b & 0x8fffffff) | 0x38000000 : b));
  return new Float32Array(bits.map((b) => ((b & 0x7f800000) === 0x7f800000 ? 0 : b)).buffer);
}

/** The float32 beside x. */
export function next(x: number, up: boolean): number {
  const value = Float32Array.of(x);
  const bits = new Int32Array(value.buffer);
  if (x === 0) bits[0] = up ? 1 : -0x7fffffff;
  else bits[0]! += x > 0 === up ? 1 : -1;
  return value[0]!;
}

/** A block of midpoints of a table and their float32 neighbours; the first number, 1, sets the scale. */
export function onEdges(table: ArrayLike<number>, block: number): Float32Array {
  const v = Float32Array.from(table).sort();
  const mid = v.slice(1).map((x, i) => Math.fround(v[i]! + x) / 2);
  const near = [...[...mid].map((x) => next(x, false)), ...mid, ...[...mid].map((x) => next(x, true)), 0];
  return Float32Array.from({ length: block }, (_, i) => (i === 0 ? 1 : near[(i - 1) % near.length]!));
}

/** Integers of `bits` bits. */
export function ints(seed: number, rows: number, cols: number, bits: number): Uint8Array {
  return Uint8Array.from(lcg(seed, rows * cols), (s) => s >>> (32 - bits));
}
