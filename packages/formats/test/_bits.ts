/** Definitions of the number formats as slow as they are plain: the oracle for the tests. */
import type { FloatFormat } from '@lmq/tensor';

const FIELDS = { fp16: { exponent: 5, fraction: 10 }, bf16: { exponent: 8, fraction: 7 }, fp32: { exponent: 8, fraction: 23 } };

/** IEEE 754 by its definition. */
export function naiveFloat(bits: number, format: FloatFormat): number {
  const { exponent, fraction } = FIELDS[format];
  const f = bits % 2 ** fraction;
  const e = Math.floor(bits / 2 ** fraction) % 2 ** exponent;
  const sign = Math.floor(bits / 2 ** (fraction + exponent)) === 1 ? -1 : 1;
  const bias = 2 ** (exponent - 1) - 1;
  if (e === 2 ** exponent - 1) return f ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return e === 0 ? sign * f * 2 ** (1 - bias - fraction) : sign * (1 + f * 2 ** -fraction) * 2 ** (e - bias);
}

/** Bits of the nearest 16-bit float: bisection over all values, ties to the even code. */
export function nearestOracle(format: 'fp16' | 'bf16'): (x: number) => number {
  const infinity = format === 'fp16' ? 0x7c00 : 0x7f80;
  const values = Float64Array.from({ length: infinity }, (_, code) => naiveFloat(code, format));
  // for rounding, infinity stands where the next number would be
  const at = (code: number) => (code === infinity ? 2 * values[infinity - 1] - values[infinity - 2] : values[code]);
  return (x) => {
    const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
    const a = Math.abs(x);
    if (a >= at(infinity)) return sign | infinity;
    let lo = 0;
    let hi = infinity;
    while (hi - lo > 1) {
      const mid = (lo + hi) >> 1;
      if (at(mid) <= a) lo = mid;
      else hi = mid;
    }
    const middle = (at(lo) + at(hi)) / 2; // exact in double
    return sign | (a > middle || (a === middle && lo % 2 === 1) ? hi : lo);
  };
}

/** float32 from its bits. */
export function float32(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0];
}
