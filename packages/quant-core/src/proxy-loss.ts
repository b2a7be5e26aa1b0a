/**
 * Proxy loss of a compressed weight: tr(E H Eᵀ) with E = W − Ŵ, the squared error of the layer's output on the inputs that made H.
 *
 * float64 throughout, half of H by symmetry, four rows at a time. O(rows · in²): about two seconds per 10⁹ on one core, so large layers give
 * `maxRows`.
 * @module
 */
import { contiguous, LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { gatherRows, ratio, spacedRows } from './_rows.js';

export interface ProxyLossOpts {
  /** Look only at this many evenly spaced rows. Default: all. */
  maxRows?: number;
}

/**
 * Output error of `decoded` in place of `w`.
 * @param w [out, in]
 * @param decoded [out, in]
 * @param h symmetric [in, in], from {@link createHessian}
 * @returns `loss` tr(E H Eᵀ) over the rows looked at, and `relative` to tr(W H Wᵀ) over the same (0 when both vanish)
 * @throws LmqError `argument/shape`
 */
export function proxyLoss(w: Tensor, decoded: Tensor, h: Tensor, opts: ProxyLossOpts = {}): { loss: number; relative: number } {
  const [rows, cols] = matrixShape(w, 'proxyLoss');
  const [dRows, dCols] = matrixShape(decoded, 'proxyLoss');
  const [hRows, hCols] = matrixShape(h, 'proxyLoss');
  if (dRows !== rows || dCols !== cols) {
    throw new LmqError('argument/shape', 'decoded differs from w', {
      op: 'proxyLoss',
      expected: `${rows} x ${cols}`,
      found: `${dRows} x ${dCols}`,
    });
  }
  if (hRows !== cols || hCols !== cols) {
    throw new LmqError('argument/shape', 'h does not fit w', {
      op: 'proxyLoss',
      expected: `${cols} x ${cols}`,
      found: `${hRows} x ${hCols}`,
    });
  }
  const chosen = spacedRows(rows, opts.maxRows ?? rows);
  const a = gatherRows(w, chosen);
  const e = gatherRows(decoded, chosen);
  for (let i = 0; i < e.length; i++) e[i] = a[i]! - e[i]!;
  const dense = contiguous(h);
  const loss = quadratic(e, dense, cols);
  return { loss, relative: ratio(loss, quadratic(a, dense, cols)) };
}

/** Σ over rows x of x H xᵀ = Σ_i x_i (H_ii x_i + 2 Σ_{j<i} H_ij x_j). */
function quadratic(x: Float64Array, h: Float32Array, n: number): number {
  const rows = x.length / n;
  let sum = 0;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const [a, b, c, d] = [r * n, (r + 1) * n, (r + 2) * n, (r + 3) * n];
    for (let i = 0; i < n; i++) {
      const at = i * n;
      let [sa, sb, sc, sd] = [0, 0, 0, 0];
      for (let j = 0; j < i; j++) {
        const v = h[at + j]!;
        sa += v * x[a + j]!;
        sb += v * x[b + j]!;
        sc += v * x[c + j]!;
        sd += v * x[d + j]!;
      }
      const diagonal = h[at + i]!;
      sum += x[a + i]! * (diagonal * x[a + i]! + 2 * sa) + x[b + i]! * (diagonal * x[b + i]! + 2 * sb);
      sum += x[c + i]! * (diagonal * x[c + i]! + 2 * sc) + x[d + i]! * (diagonal * x[d + i]! + 2 * sd);
    }
  }
  for (; r < rows; r++) {
    for (let i = 0; i < n; i++) {
      let s = 0;
      for (let j = 0; j < i; j++) s += h[i * n + j]! * x[r * n + j]!;
      sum += x[r * n + i]! * (h[i * n + i]! * x[r * n + i]! + 2 * s);
    }
  }
  return sum;
}
