/**
 * Which keys a query sees, as a number added to its scores: padding of the attention mask, and sliding windows. The operator leaves out later
 * keys by itself. Its own `local_window_size` is not used: versions of ONNX Runtime differ by one in how many keys that is.
 * @module
 */
import type { Builder } from './_builder.js';

/** Stands for minus infinity where a row might have nothing else: a query that is padding itself. */
const LOWEST = -3.4028234663852886e38;
const INT32 = 6;
const BOOL = 9;

/** What attention needs to know of one run, besides queries, keys and values. */
export interface Run {
  /** Positions in the cache after the run, less one: int32 [batch]. */
  seqlens: string;
  /** Positions in the cache after the run: int32 [1]. */
  total: string;
  /** What to add to the scores, [batch, 1, tokens, total], for layers with a window of so many keys; null: without. */
  bias(window: number | null): string;
}

/**
 * @param ids name of the token ids, [batch, tokens]
 * @param mask name of the attention mask, int64 [batch, total]: 1 for tokens, 0 for padding
 */
export function attentionRun(g: Builder, ids: string, mask: string): Run {
  const name = 'mask';
  const size = (of: string, axis: number) => g.op(name, 'Gather', [g.op(name, 'Shape', [of]), g.ints([axis])]);
  const [batch, tokens, total] = [size(ids, 0), size(ids, 1), size(mask, 1)];
  const cast = (x: string, to: number) => g.op(name, 'Cast', [x], { attributes: { to: { int: to } } });
  const one = g.ints([1]);
  const total32 = cast(total, INT32);
  const seqlens = g.op(name, 'Expand', [cast(g.op(name, 'Sub', [total, one]), INT32), batch]);
  const seen = cast(g.op(name, 'Unsqueeze', [mask, g.ints([1, 2])]), BOOL); // [batch, 1, 1, total]
  const square = g.op(name, 'Concat', [batch, one, tokens, total], { attributes: { axis: { int: 0 } } });

  /** keys behind the query: [tokens, total] */
  const behind = once(() => {
    const scalar = (x: string) => g.op(name, 'Squeeze', [x]);
    const range = (from: string) => g.op(name, 'Range', [scalar(from), scalar(total), g.ints([1], true)]);
    const queries = g.op(name, 'Unsqueeze', [range(g.op(name, 'Sub', [total, tokens])), one]);
    return g.op(name, 'Sub', [queries, range(g.ints([0]))]);
  });
  const biases = new Map<number | null, string>();
  return {
    seqlens,
    total: total32,
    bias(window) {
      const made = biases.get(window);
      if (made !== undefined) return made;
      const near = window === null ? seen : g.op(name, 'And', [seen, g.op(name, 'Less', [behind(), g.ints([window])])]);
      const values = g.op(name, 'Where', [near, g.floats(0), g.floats(LOWEST)]);
      const bias = g.op(name, 'Expand', [values, square]);
      biases.set(window, bias);
      return bias;
    },
  };
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
