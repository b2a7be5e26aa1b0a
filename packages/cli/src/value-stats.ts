/**
 * What the values of a weight look like: range, spread, outliers, and what should not be there.
 * @module
 */
import { decodeRows } from '@lmq/formats';
import type { CompressedTensor } from '@lmq/tensor';

export interface ValueStats {
  min: number;
  max: number;
  mean: number;
  std: number;
  /** Largest magnitude over the standard deviation: 4 to 6 for a normal weight, more with outliers. */
  outlier: number;
  zeros: number;
  nonFinite: number;
  /** Remarks for people. */
  suspicious: string[];
}

/** Rows decoded at a time. */
const TILE = 64;

/** Decodes a tensor a few rows at a time and sums it up, in double. */
export function measure(t: CompressedTensor): ValueStats {
  const [rows, cols] = t.shape;
  const buffer = new Float32Array(Math.min(TILE, rows) * cols);
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  let squares = 0;
  let zeros = 0;
  let nonFinite = 0;
  for (let r = 0; r < rows; r += TILE) {
    const end = Math.min(rows, r + TILE);
    decodeRows(t, r, end, buffer);
    for (let i = 0; i < (end - r) * cols; i++) {
      const x = buffer[i]!;
      if (!Number.isFinite(x)) {
        nonFinite++;
        continue;
      }
      if (x < min) min = x;
      if (x > max) max = x;
      if (x === 0) zeros++;
      sum += x;
      squares += x * x;
    }
  }
  const n = Math.max(1, rows * cols - nonFinite);
  const mean = sum / n;
  const std = Math.sqrt(Math.max(0, squares / n - mean * mean));
  const outlier = std > 0 ? Math.max(Math.abs(min), Math.abs(max)) / std : 0;
  const suspicious: string[] = [];
  if (nonFinite) suspicious.push(`${nonFinite} values are NaN or infinite`);
  if (zeros === rows * cols) suspicious.push('all values are zero');
  else if (rows > 1 && zeros > (rows * cols) / 4) suspicious.push(`${((100 * zeros) / (rows * cols)).toFixed(0)} % of the values are zero`);
  if (rows > 1 && outlier > 50) suspicious.push(`the largest value is ${outlier.toFixed(0)} standard deviations out`);
  return { min, max, mean, std, outlier, zeros, nonFinite, suspicious };
}
