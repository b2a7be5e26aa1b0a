/**
 * Proxy loss by a backend: `proxyLoss` with the product by H done where the weights are swept. Float32 products, float64 sums.
 * @module
 */
import { type Handle, matrixShape, ndarray, type Scope, type Tensor } from '@lmq/tensor';
import { gatherRows, PROXY_ROWS, ratio, spacedRows } from '../_rows.js';

export interface BackendProxyLossOpts {
  /** Rows to look at, evenly spaced. Default 256. */
  maxRows?: number;
  /** C of `createCrossTerm`, [in, in], with the factor of `h`: also returns `asymmetric`. */
  cross?: Handle;
}

/**
 * tr(E H Eᵀ) and its ratio to tr(W H Wᵀ), E = W − Ŵ, over evenly spaced rows.
 * @param w [out, in]
 * @param decoded [out, in]
 * @param h [in, in]
 * @returns with `cross` also `asymmetric`, (tr(E H Eᵀ) + 2 tr(W C Eᵀ)) / tr(W H Wᵀ): what ‖W X̃ − Ŵ X‖² exceeds ‖W X̃ − W X‖² by
 */
export async function backendProxyLoss(
  s: Scope,
  w: Tensor,
  decoded: Tensor,
  h: Handle,
  opts: BackendProxyLossOpts = {},
): Promise<{ loss: number; relative: number; asymmetric?: number }> {
  const [rows, cols] = matrixShape(w, 'proxyLoss');
  const chosen = spacedRows(rows, opts.maxRows ?? PROXY_ROWS);
  const whole = gatherRows(w, chosen);
  const error = gatherRows(decoded, chosen);
  for (let i = 0; i < error.length; i++) error[i] = whole[i]! - error[i]!;
  /** tr(X M Yᵀ) */
  const form = async (x: Float64Array, m: Handle, y: Float64Array) => {
    const a = s.upload(ndarray(Float32Array.from(x), [chosen.length, cols]));
    const product = s.gemm(a, m);
    const { data } = await s.read(product);
    s.free(a);
    s.free(product);
    let sum = 0;
    for (let i = 0; i < y.length; i++) sum += y[i]! * data[i]!;
    return sum;
  };
  const loss = await form(error, h, error);
  const scale = await form(whole, h, whole);
  if (!opts.cross) return { loss, relative: ratio(loss, scale) };
  const shift = 2 * (await form(whole, opts.cross, error));
  return { loss, relative: ratio(loss, scale), asymmetric: ratio(loss + shift, scale) };
}
