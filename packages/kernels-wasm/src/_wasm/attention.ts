/**
 * Causal grouped-query attention: one call a query and head when there are few queries, else one a tile of queries and head. In f32 with the
 * maximum subtracted before exp. Keys that the sliding window hides from a whole tile are not touched.
 * @module
 */
import type { AttentionOpts } from '@lmq/tensor';
import { type Core, f32, step, type WasmMat, withScratch } from './core.js';

/** Fewer queries than this are done one by one. */
const MANY = 8;
/** Queries per tile of scores. */
const TILE = 64;

export function attention(core: Core, out: WasmMat, q: WasmMat, k: WasmMat, v: WasmMat, opts: Required<AttentionOpts>): void {
  const { heads, kvHeads, headDim, position, scale } = opts;
  const window = Math.min(opts.window, k.rows); // fits 32 bits
  const [oAt, qAt, kAt, vAt] = [f32(out), f32(q), f32(k), f32(v)];
  const [oStep, qStep, kStep, vStep] = [step(out), step(q), step(k), step(v)];
  const { wasm, queue, work } = core;
  const bytes = headDim * 4;
  const tile = q.rows < MANY ? 1 : Math.min(TILE, q.rows);
  const most = Math.min(k.rows, window + tile);
  const scratchBytes = tile === 1 ? Math.ceil(most / 16) * 64 : wasm.attentionScratch(tile, most, headDim);
  withScratch(core, core.count * scratchBytes, (scratch) => {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads)) * bytes;
      // last queries first: they see the most keys, and threads end together when the last calls are short
      for (let i = (Math.ceil(q.rows / tile) - 1) * tile; i >= 0; i -= tile) {
        const query = qAt + i * qStep + h * bytes;
        const to = oAt + i * oStep + h * bytes;
        const rows = Math.min(tile, q.rows - i);
        const seen = position + i + 1; // by the tile's first query
        const first = Math.max(0, seen - window);
        const keys = seen + rows - 1 - first;
        const [key, value, past] = [kAt + kv + first * kStep, vAt + kv + first * vStep, seen - first];
        const own = [scratch, scratchBytes] as const;
        if (tile === 1) queue.attentionRow(to, query, key, kStep, value, vStep, keys, headDim, scale, ...own);
        else queue.attentionTile(to, oStep, query, qStep, key, kStep, value, vStep, rows, keys, headDim, scale, past, window, ...own, work);
      }
    }
    core.join();
  });
}
