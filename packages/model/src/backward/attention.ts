/**
 * Gradient of causal grouped-query attention, O = softmax(scale Q Kᵀ) V for each head. With A the probabilities:
 *
 *     dV = Aᵀ dO      dA = dO Vᵀ      dS = A ⊙ (dA - D), D = Σ A ⊙ dA of each row      dQ = scale dS K      dK = scale dSᵀ Q
 *
 * The heads that share keys add up their dK and dV. A is computed again from Q and K, a tile of queries at a time (Dao et al. 2022,
 * FlashAttention, appendix B.2; there keys are cut as well, which needs the row sums of the forward pass): memory holds
 * 4 · heads · TILE · keys floats. Five products of 2 · queries · keys · headDim operations a head; only dS is formed on the calling thread.
 * @module
 */
import { type AttentionOpts, type Handle, matrix, type Scope } from '@lmq/tensor';

/** Queries at a time. Of a tile on the diagonal half the work is for nothing, and thinner products are slower. */
const TILE = 64;

export interface AttentionGradients {
  /** [tokens, heads * headDim] */
  dq: Handle;
  /** [tokens, kvHeads * headDim] */
  dk: Handle;
  /** [tokens, kvHeads * headDim] */
  dv: Handle;
}

/**
 * @param q, k, v as in `Scope.attention`, of one sequence from its beginning
 * @param dOut [tokens, heads * headDim]
 * @returns in `s`
 */
export async function attentionBackward(
  s: Scope,
  q: Handle,
  k: Handle,
  v: Handle,
  dOut: Handle,
  { heads, kvHeads, headDim, scale = 1 / Math.sqrt(headDim), window = q.rows }: Omit<AttentionOpts, 'position'>,
): Promise<AttentionGradients> {
  const dq = s.alloc(q.rows, q.cols);
  const dk = s.alloc(k.rows, k.cols);
  const dv = s.alloc(v.rows, v.cols);
  for (let from = 0; from < q.rows; from += TILE) {
    const t = s.backend.scope();
    try {
      const to = Math.min(from + TILE, q.rows);
      const first = Math.max(0, from - window + 1);
      const rows = to - from;
      const hidden = t.upload(mask(from, to, first, window));
      const scores = t.alloc(heads * rows, to - first);
      const dA = t.alloc(heads * rows, to - first);
      const head = (h: number) => {
        const own: [number, number] = [h * headDim, (h + 1) * headDim];
        const kv = Math.floor(h / (heads / kvHeads)) * headDim;
        const shared: [number, number] = [kv, kv + headDim];
        return {
          tile: [h * rows, (h + 1) * rows] as const,
          ofQueries: (x: Handle) => t.view(x, [from, to], own),
          ofKeys: (x: Handle) => t.view(x, [first, to], shared),
        };
      };
      for (let h = 0; h < heads; h++) {
        const { tile, ofQueries, ofKeys } = head(h);
        const own = t.view(scores, tile);
        t.gemm(ofQueries(q), ofKeys(k), { transposeB: true, alpha: scale, out: own });
        t.addTo(own, hidden);
        t.gemm(ofQueries(dOut), ofKeys(v), { transposeB: true, out: t.view(dA, tile) });
      }
      const a = t.softmax(scores);
      const dS = await softmaxBackward(t, a, dA);
      for (let h = 0; h < heads; h++) {
        const { tile, ofQueries, ofKeys } = head(h);
        const own = t.view(dS, tile);
        t.gemm(t.view(a, tile), ofQueries(dOut), { transposeA: true, beta: 1, out: ofKeys(dv) });
        t.gemm(own, ofKeys(k), { alpha: scale, out: ofQueries(dq) });
        t.gemm(own, ofQueries(q), { transposeA: true, alpha: scale, beta: 1, out: ofKeys(dk) });
      }
      await s.flush();
    } finally {
      t.dispose();
    }
  }
  return { dq, dk, dv };
}

/** [to - from, to - first]: 0 where query `from + i` sees key `first + j`, else -Infinity. */
function mask(from: number, to: number, first: number, window: number) {
  const cols = to - first;
  const out = new Float32Array((to - from) * cols);
  for (let i = 0; i < to - from; i++) {
    const seen = from + i + 1 - first;
    out.fill(Number.NEGATIVE_INFINITY, i * cols + seen, (i + 1) * cols);
    out.fill(Number.NEGATIVE_INFINITY, i * cols, i * cols + Math.max(0, seen - window));
  }
  return matrix(out, to - from, cols);
}

/** Of each row: probabilities and their gradient → the gradient of what the softmax was taken of. Sums in double. */
async function softmaxBackward(s: Scope, a: Handle, dA: Handle): Promise<Handle> {
  const [{ data: p }, { data: d }] = [await s.read(a), await s.read(dA)];
  const { rows, cols } = a;
  for (let r = 0, at = 0; r < rows; r++, at += cols) {
    let mean = 0;
    for (let c = at; c < at + cols; c++) mean += p[c]! * d[c]!;
    for (let c = at; c < at + cols; c++) d[c] = p[c]! * (d[c]! - mean);
  }
  return s.upload(matrix(d, rows, cols));
}
