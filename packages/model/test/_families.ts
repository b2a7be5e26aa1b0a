import { readdirSync } from 'node:fs';
import type { Checkpoint } from '@lmq/checkpoints';
import { dense } from '@lmq/formats';
import { readJson } from './_support.js';

/** One file of golden/families: made by transformers, see golden/make-families.py. */
export interface FamilyCase {
  /** config.json as older transformers wrote it, and as 5.17 does. */
  config: Record<string, unknown>;
  current: Record<string, unknown>;
  tensors: Record<string, number[]>;
  ids: number[];
  logits: number[];
}

const FOLDER = new URL('golden/families/', import.meta.url);
export const CASES: string[] = readdirSync(FOLDER).map((file) => file.replace('.json', ''));
export const readCase = (name: string): FamilyCase => readJson(new URL(`${name}.json`, FOLDER));

/** n numbers in [-1/2, 1/2) with 24 bits: the generator of make-families.py. */
export function lcg(text: string, n: number): Float32Array {
  let s = 2166136261;
  for (const byte of new TextEncoder().encode(text)) s = Math.imul(s ^ byte, 16777619) >>> 0;
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    out[i] = (s >>> 8) / 2 ** 24 - 0.5;
  }
  return out;
}

/** A tensor of make-families.py. */
export function weightOf(name: string, n: number, family: unknown): Float32Array {
  const u = lcg(name, n);
  if (name.includes('norm')) return u.map((x) => x / 2 + (family === 'gemma3_text' ? 0 : 1));
  if (name.includes('embed_tokens')) return u.map((x) => 2 * x);
  return name.endsWith('block_sparse_moe.gate.weight') ? u.map((x) => 4 * x) : u;
}

/** A checkpoint whose tensors are computed when they are read. */
export function familyCheckpoint({ tensors, config }: FamilyCase): Checkpoint {
  const entries = Object.entries(tensors);
  return {
    format: 'safetensors',
    metadata: new Map(),
    tensors: new Map(entries.map(([name, shape]) => [name, { name, shape, format: 'fp32', bytes: 0, file: 'computed' }])),
    read: async (name) => {
      const shape = tensors[name]!;
      const cols = shape[shape.length - 1]!;
      const rows = shape.length === 1 ? 1 : shape[0]!;
      return dense('fp32', weightOf(name, rows * cols, config.model_type), rows, cols);
    },
    close: async () => {},
  };
}
