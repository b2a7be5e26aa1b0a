/**
 * GPU runtimes store matrices input by input; ours are output by output.
 * @module
 */

/** [rows, cols] to [cols, rows], row-major. By squares, so that both sides stay in the cache. */
export function transpose<D extends Int32Array | Uint16Array | Float32Array>(data: D, rows: number, cols: number): D {
  const out = new (data.constructor as new (n: number) => D)(data.length);
  const side = 32;
  for (let r0 = 0; r0 < rows; r0 += side) {
    const r1 = Math.min(r0 + side, rows);
    for (let c0 = 0; c0 < cols; c0 += side) {
      const c1 = Math.min(c0 + side, cols);
      for (let r = r0; r < r1; r++) for (let c = c0; c < c1; c++) out[c * rows + r] = data[r * cols + c]!;
    }
  }
  return out;
}
