/**
 * Causal grouped-query attention. Few queries: one fused pass per query and head. Many: tiles of queries, where scores and weighted sum are
 * gemms. Both in f32 with the maximum subtracted before exp. Keys that the sliding window hides from a whole tile are not touched.
 * @module
 */
import type { AttentionOpts } from '@lmq/tensor';
import { type Core, f32, step, type WasmMat, withScratch } from './core.js';
import { product } from './gemm.js';

/** Fewer queries than this are done one by one. */
const MANY = 8;
/** Queries per tile of scores. */
const TILE = 64;

export function attention(core: Core, out: WasmMat, q: WasmMat, k: WasmMat, v: WasmMat, opts: Required<AttentionOpts>): void {
  const { heads, kvHeads, headDim, position, scale } = opts;
  const window = Math.min(opts.window, k.rows); // fits 32 bits
  const [oAt, qAt, kAt, vAt] = [f32(out), f32(q), f32(k), f32(v)];
  const [oStep, qStep, kStep, vStep] = [step(out), step(q), step(k), step(v)];
  const { wasm } = core;
  const bytes = headDim * 4;
  const tile = q.rows < MANY ? 1 : Math.min(TILE, q.rows);
  withScratch(core, tile * Math.min(k.rows, window + tile) * 4, (scores) => {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads)) * bytes;
      for (let i = 0; i < q.rows; i += tile) {
        const query = qAt + i * qStep + h * bytes;
        const to = oAt + i * oStep + h * bytes;
        const rows = Math.min(tile, q.rows - i);
        const seen = position + i + 1; // by the tile's first query
        const first = Math.max(0, seen - window);
        const keys = seen + rows - 1 - first;
        const kFrom = kAt + kv + first * kStep;
        const vFrom = vAt + kv + first * vStep;
        if (tile === 1) {
          wasm.attentionRow(to, query, kFrom, kStep, vFrom, vStep, keys, headDim, scale, scores);
          continue;
        }
        const s = { at: scores, stride: keys * 4, transposed: false };
        const key = { at: kFrom, stride: kStep, transposed: true };
        product(core, rows, keys, headDim, { at: query, stride: qStep, transposed: false }, key, s, { alpha: scale });
        wasm.causalSoftmax(scores, keys * 4, rows, keys, seen - first, window);
        product(core, rows, headDim, keys, s, { at: vFrom, stride: vStep, transposed: false }, { at: to, stride: oStep });
      }
    }
  });
}
