/**
 * Lays an activation row out for the integer gemv kernels: in blocks of 4 * perLane columns, vector j of a block holds columns j, perLane
 * + j, 2 perLane + j, 3 perLane + j, so that it lines up with code j of each 32-bit lane of packed codes. Zero-padded to whole blocks.
 * Also sums x over each group (f32, ascending), for the zero points.
 * @module
 */
import { madd } from './fma';

/**
 * @param factor vector j is multiplied by factor ** j, the last by `last` (powers of two: exact)
 * @param sums one f32 per group
 */
export function prepare(x: usize, k: i32, dst: usize, perLane: i32, first: f32, factor: f32, last: f32, sums: usize, groupSize: i32): void {
  const width = perLane << 2;
  for (let b = 0; b < k; b += width) {
    let f = first;
    for (let j = 0; j < perLane; j++) {
      if (j == perLane - 1) f = last;
      for (let l = 0; l < 4; l++) {
        const c = b + perLane * l + j;
        store<f32>(dst, c < k ? load<f32>(x + ((<usize>c) << 2)) * f : 0);
        dst += 4;
      }
      f *= factor;
    }
  }
  for (let c = 0; c < k; ) {
    const end = min(k, c + groupSize);
    let s: f32 = 0;
    for (; c < end; c++) s += load<f32>(x + ((<usize>c) << 2));
    store<f32>(sums, s);
    sums += 4;
  }
}

/** Σ_g scale_g (zero_g - base) sum_g; `zeros` 0: every zero point is `zero`. f32, 4 lanes. */
export function zeroPart(scales: usize, zeros: usize, zero: f32, base: f32, sums: usize, groups: i32): f32 {
  let s: f32 = 0;
  const shift = f32x4.splat(base);
  let acc = f32x4.splat(0);
  let g = 0;
  for (; g + 4 <= groups; g += 4) {
    const z = zeros ? f32x4.sub(v128.load(zeros), shift) : f32x4.splat(zero - base);
    acc = madd(f32x4.mul(v128.load(scales), z), v128.load(sums), acc);
    scales += 16;
    sums += 16;
    if (zeros) zeros += 16;
  }
  for (; g < groups; g++) {
    s += load<f32>(scales) * ((zeros ? load<f32>(zeros) : zero) - base) * load<f32>(sums);
    scales += 4;
    sums += 4;
    if (zeros) zeros += 4;
  }
  return s + f32x4.extract_lane(acc, 0) + f32x4.extract_lane(acc, 1) + (f32x4.extract_lane(acc, 2) + f32x4.extract_lane(acc, 3));
}
