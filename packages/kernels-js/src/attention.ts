/**
 * Causal grouped-query attention (Vaswani et al. 2017; Ainslie et al. 2023): softmax(scale q kᵀ) v for each head; query i sees keys
 * 0 … position + i, or the last `window` of them (Beltagy et al. 2020, Longformer, section 3.1; Mistral 7B). Scores, softmax (maximum subtracted) and the weighted sum are double; one rounding to float32.
 * @module
 */
import type { AttentionOpts, Mat } from '@lmq/tensor';

/** q, out [tokens, heads * headDim]; k, v [position + tokens, kvHeads * headDim]. Head h reads key head floor(h / (heads / kvHeads)). */
export function attention(
  out: Mat<Float32Array>,
  q: Mat<Float32Array>,
  k: Mat<Float32Array>,
  v: Mat<Float32Array>,
  { heads, kvHeads, headDim, position, scale, window }: Required<AttentionOpts>,
): void {
  const perKey = heads / kvHeads;
  const scores = new Float64Array(k.rows);
  const query = new Float64Array(headDim);
  const sum = new Float64Array(headDim);
  for (let head = 0; head < heads; head++) {
    const kv = Math.floor(head / perKey) * headDim;
    for (let i = 0; i < q.rows; i++) {
      const from = q.offset + i * q.stride + head * headDim;
      for (let d = 0; d < headDim; d++) query[d] = q.buffer[from + d]! * scale;
      const seen = position + i + 1;
      const first = Math.max(0, seen - window);
      let max = Number.NEGATIVE_INFINITY;
      for (let t = first; t < seen; t++) {
        const key = k.offset + t * k.stride + kv;
        let score = 0;
        for (let d = 0; d < headDim; d++) score += query[d]! * k.buffer[key + d]!;
        scores[t] = score;
        if (score > max) max = score;
      }
      let total = 0;
      sum.fill(0);
      for (let t = first; t < seen; t++) {
        const p = Math.exp(scores[t]! - max);
        total += p;
        const value = v.offset + t * v.stride + kv;
        for (let d = 0; d < headDim; d++) sum[d]! += p * v.buffer[value + d]!;
      }
      const to = out.offset + i * out.stride + head * headDim;
      for (let d = 0; d < headDim; d++) out.buffer[to + d] = sum[d]! / total;
    }
  }
}
