/**
 * Logits of a window, a few rows at a time, so that a large vocabulary does not need a window's worth of memory.
 * @module
 */
import type { Model } from '@lmq/model';
import type { Handle, Scope } from '@lmq/tensor';

/** Logits held at once: 4 Mi numbers, 16 MB. */
const CHUNK_NUMBERS = 2 ** 22;

/** Rows whose logits are read at once. */
export function chunkRows(vocab: number): number {
  return Math.max(1, Math.floor(CHUNK_NUMBERS / vocab));
}

/**
 * Logits of rows [from, to) of `states` (from `model.hidden`).
 * @returns [to - from, vocab] row-major
 */
export async function readLogits(model: Pick<Model, 'head'>, s: Scope, states: Handle, from: number, to: number): Promise<Float32Array> {
  const rows = s.view(states, [from, to]);
  const logits = model.head(s, rows);
  const { data } = await s.read(logits);
  s.free(logits);
  s.free(rows);
  await s.flush();
  return data;
}
