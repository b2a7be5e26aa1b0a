/**
 * Column order of the sweep and the group of each column in that order.
 * @module
 */

/** Columns by falling diagonal; equal ones keep their order. */
export function actOrder(diagonal: ArrayLike<number>): Int32Array {
  return Int32Array.from({ length: diagonal.length }, (_, i) => i).sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
}

/**
 * Group-aware order (Gafni, Karnieli, Hanani 2025, "Dual Precision Quantization for Efficient and Accurate Deep Neural Networks
 * Inference", arXiv 2505.14638; ModelCloud/GPTQModel): groups by their falling largest diagonal, columns inside a group by falling
 * diagonal; equal ones keep their order. No column leaves its group.
 */
export function groupAwareOrder(diagonal: ArrayLike<number>, size: number): Int32Array {
  const columns = actOrder(diagonal);
  const groups = new Map<number, number[]>(); // in the order in which they first come: that of their largest entries
  for (const c of columns) {
    const g = Math.floor(c / size);
    const members = groups.get(g);
    if (members) members.push(c);
    else groups.set(g, [c]);
  }
  return Int32Array.from([...groups.values()].flat());
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
