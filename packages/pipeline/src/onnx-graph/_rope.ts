/**
 * cos and sin of the rotation angles of the positions of one run. A table of every position would be large (33 MB for 131 072 positions of
 * heads of 64), and cos and sin of large float32 angles are inexact, on some GPUs useless. So p = 256 h + l, and two small tables, made in
 * double, are put together by the addition theorems:
 *
 *     cos(p f) = cos(256 h f) cos(l f) - sin(256 h f) sin(l f)
 *     sin(p f) = sin(256 h f) cos(l f) + cos(256 h f) sin(l f)
 * @module
 */
import { type RopeKind, ropeFrequencies } from '@lmq/model';
import type { Builder } from './_builder.js';

/** Positions in the table of low parts. */
const STEP = 256;

/** [tokens, rotary / 2] each. */
export interface Angles {
  cos: string;
  sin: string;
}

/**
 * @param positions name of the positions, int64 [batch, tokens]
 * @param context most positions
 */
export function ropeAngles(g: Builder, kind: RopeKind, rotary: number, positions: string, context: number, name: string): Angles {
  const { frequencies, magnitude } = ropeFrequencies(kind, rotary);
  const step = g.ints([STEP], true);
  const high = g.op(name, 'Div', [positions, step]);
  const low = g.op(name, 'Sub', [positions, g.op(name, 'Mul', [high, step])]);
  // one past the end: transformers.js counts the positions of Gemma 3 from 1
  const highs = tables(g, frequencies, Math.floor(context / STEP) + 1, STEP, magnitude, `${name}/high`);
  const lows = tables(g, frequencies, Math.min(STEP, context + 1), 1, 1, `${name}/low`);
  const at = (table: string, index: string) => g.op(name, 'Gather', [table, index]);
  const [cosHigh, sinHigh, cosLow, sinLow] = [at(highs.cos, high), at(highs.sin, high), at(lows.cos, low), at(lows.sin, low)];
  const product = (a: string, b: string) => g.op(name, 'Mul', [a, b]);
  const rows = g.ints([-1, rotary / 2]);
  const flat = (x: string) => g.op(name, 'Reshape', [x, rows]);
  return {
    cos: flat(g.op(name, 'Sub', [product(cosHigh, cosLow), product(sinHigh, sinLow)])),
    sin: flat(g.op(name, 'Add', [product(sinHigh, cosLow), product(cosHigh, sinLow)])),
  };
}

/** cos and sin of `i * step * frequency`, times `magnitude`, for i = 0 … rows - 1. */
function tables(g: Builder, frequencies: Float64Array, rows: number, step: number, magnitude: number, name: string): Angles {
  const half = frequencies.length;
  const table = (f: (angle: number) => number) =>
    Float32Array.from({ length: rows * half }, (_, i) => magnitude * f(Math.floor(i / half) * step * frequencies[i % half]!));
  return {
    cos: g.floats(table(Math.cos), [rows, half], `${name}/cos`),
    sin: g.floats(table(Math.sin), [rows, half], `${name}/sin`),
  };
}
