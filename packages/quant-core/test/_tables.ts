/** Golden data of golden/make_tables.py, and random weights with tails. */
import { readFileSync } from 'node:fs';
import { createRng, type Matrix, matrix } from '@lmq/tensor';

interface Golden {
  rows: number;
  cols: number;
  inputs: Record<string, string>;
  hqq: { input: string; bits: number; groupSize: number; codes: string; scale: string; zero: string }[];
  kmeans: { k: number; values: string; weights: string; inertia: number }[];
}

export const golden: Golden = JSON.parse(readFileSync(new URL('golden/tables.json', import.meta.url), 'utf8'));

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
export const floats = (text: string): Float32Array => new Float32Array(bytes(text).slice().buffer);

/** Normal, with one weight in fifty five times as large. */
export function tailed(rows: number, cols: number, seed: number, sigma = 0.05): Matrix {
  const rng = createRng(seed);
  const data = Float32Array.from({ length: rows * cols }, () => sigma * rng.normal() * (rng.below(50) ? 1 : 5));
  return matrix(data, rows, cols);
}

/** Σ |a - b|^p. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>, p: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!) ** p;
  return sum;
}
