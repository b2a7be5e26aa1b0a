/**
 * Sparse rows times one activation row, added to what is there: y[r] += Σ_i x[columns[i]] values[i], in f32, ascending.
 * @module
 */

/** @param rowStart first row's; indices into `columns` and `values` */
export function addCsr(y: usize, x: usize, rowStart: usize, columns: usize, values: usize, rows: i32): void {
  for (let r = 0; r < rows; r++) {
    let sum: f32 = 0;
    for (let i = <usize>load<u32>(rowStart), end = <usize>load<u32>(rowStart, 4); i < end; i++) {
      sum += load<f32>(x + ((<usize>load<u32>(columns + (i << 2))) << 2)) * load<f32>(values + (i << 2));
    }
    store<f32>(y, load<f32>(y) + sum);
    y += 4;
    rowStart += 4;
  }
}
