/**
 * Block-wise quantization to a table, as bitsandbytes does it: runs of `blockSize` numbers, across rows, are divided by their largest
 * magnitude and each becomes the code of the nearest table value.
 *
 * Byte for byte bitsandbytes' portable code (backends/default/ops.py): the float32 product with the float32 reciprocal of the magnitude
 * (the last, shorter block is divided instead), compared with float32 midpoints; a number on a midpoint takes the smaller value. Its CUDA
 * kernels compare with the same midpoints, but their reciprocal is approximate, and a block of zeros gets other codes that mean 0, too.
 * @module
 */
import { checkInteger, LmqError } from '@lmq/tensor';

const f = Math.fround;
const TINY = f(1e-38);

export interface BlockwiseCodes {
  /** One per number. */
  codes: Uint8Array;
  /** The largest magnitude of each block. */
  absmax: Float32Array;
}

/**
 * @param table value of each code, at most 256, in any order
 * @param blockSize numbers per block; bitsandbytes itself has powers of two from 32 to 4096
 * @throws LmqError `argument/option` for a block size that is not a positive integer, `argument/value` for NaN and infinity
 */
export function quantizeBlockwise(values: Float32Array, table: ArrayLike<number>, blockSize: number): BlockwiseCodes {
  const op = 'quantizeBlockwise';
  checkInteger(blockSize, 'blockSize', 1, Number.MAX_SAFE_INTEGER, op);
  const n = values.length;
  const nearest = nearestIn(table);
  const codes = new Uint8Array(n);
  const absmax = new Float32Array(Math.ceil(n / blockSize));
  for (let b = 0; b < absmax.length; b++) {
    const from = b * blockSize;
    const to = Math.min(from + blockSize, n);
    let largest = 0;
    for (let i = from; i < to; i++) {
      const a = Math.abs(values[i]!);
      if (!(a < Number.POSITIVE_INFINITY)) {
        throw new LmqError('argument/value', `element ${i} is not finite`, { op, found: values[i] });
      }
      if (a > largest) largest = a;
    }
    const whole = to - from === blockSize;
    const divisor = Math.max(largest, TINY);
    absmax[b] = whole ? largest : divisor;
    const factor = f(1 / divisor);
    for (let i = from; i < to; i++) codes[i] = nearest(whole ? f(values[i]! * factor) : f(values[i]! / divisor));
  }
  return { codes, absmax };
}

/** The code of the nearest value of a table, of two equally near ones the smaller. */
function nearestIn(table: ArrayLike<number>): (x: number) => number {
  const order = Array.from(table, (_, code) => code).sort((a, b) => table[a]! - table[b]! || a - b);
  const bounds = Float32Array.from(order.slice(1), (code, i) => f(f(table[order[i]!]! + table[code]!) / 2));
  return (x) => {
    let lo = 0; // bounds below x
    let hi = bounds.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (bounds[mid]! < x) lo = mid + 1;
      else hi = mid;
    }
    return order[lo]!;
  };
}
