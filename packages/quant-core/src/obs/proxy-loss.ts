/**
 * Proxy loss by a backend: `proxyLoss` with the product by H done where the weights are swept. Float32 products, float64 sums.
 * @module
 */
import { type Handle, matrixShape, ndarray, type Scope, type Tensor } from '@lmq/tensor';
import { gatherRows, PROXY_ROWS, ratio, spacedRows } from '../_rows.js';

/**
 * tr(E H Eᵀ) and its ratio to tr(W H Wᵀ), E = W − Ŵ, over evenly spaced rows.
 * @param w [out, in]
 * @param decoded [out, in]
 * @param h [in, in]
 * @param maxRows default 256
 */
export async function backendProxyLoss(
  s: Scope,
  w: Tensor,
  decoded: Tensor,
  h: Handle,
  maxRows = PROXY_ROWS,
): Promise<{ loss: number; relative: number }> {
  const [rows, cols] = matrixShape(w, 'proxyLoss');
  const chosen = spacedRows(rows, maxRows);
  const whole = gatherRows(w, chosen);
  const error = gatherRows(decoded, chosen);
  for (let i = 0; i < error.length; i++) error[i] = whole[i]! - error[i]!;
  const form = async (x: Float64Array) => {
    const a = s.upload(ndarray(Float32Array.from(x), [chosen.length, cols]));
    const product = s.gemm(a, h);
    const { data } = await s.read(product);
    s.free(a);
    s.free(product);
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i]! * data[i]!;
    return sum;
  };
  const loss = await form(error);
  return { loss, relative: ratio(loss, await form(whole)) };
}
