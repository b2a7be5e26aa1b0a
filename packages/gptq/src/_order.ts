/**
 * Column order of the sweep and the group of each column in that order.
 * @module
 */

/** Columns by falling diagonal; equal ones keep their order. */
export function actOrder(h: Float32Array, n: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => i).sort((a, b) => h[b * n + b]! - h[a * n + a]! || a - b);
}

/** Moves columns: out[r][i] = w[r][order[i]]. */
export function permuteColumns(w: Float32Array, rows: number, order: Int32Array): Float32Array {
  const cols = order.length;
  const out = new Float32Array(w.length);
  for (let r = 0; r < rows; r++) for (let i = 0; i < cols; i++) out[r * cols + i] = w[r * cols + order[i]!]!;
  return out;
}

/** Puts codes back: out[r][order[i]] = codes[r][i]. */
export function restoreColumns(codes: Uint8Array, rows: number, order: Int32Array): Uint8Array {
  const cols = order.length;
  const out = new Uint8Array(codes.length);
  for (let r = 0; r < rows; r++) for (let i = 0; i < cols; i++) out[r * cols + order[i]!] = codes[r * cols + i]!;
  return out;
}
