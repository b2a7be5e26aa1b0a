/** Definitions of the number formats as slow as they are plain: the oracle for the tests. */
import type { FloatFormat, MinifloatFormat } from '@lmq/tensor';

const FIELDS = {
  fp16: { exponent: 5, fraction: 10 },
  bf16: { exponent: 8, fraction: 7 },
  fp32: { exponent: 8, fraction: 23 },
  fp8e4m3: { exponent: 4, fraction: 3 },
  fp8e5m2: { exponent: 5, fraction: 2 },
  fp6e2m3: { exponent: 2, fraction: 3 },
  fp6e3m2: { exponent: 3, fraction: 2 },
  fp4e2m1: { exponent: 2, fraction: 1 },
};
/** All-ones exponents are ordinary here; of E4M3's, only the code of ones is NaN. */
const FINITE: readonly string[] = ['fp8e4m3', 'fp6e2m3', 'fp6e3m2', 'fp4e2m1'];

/** IEEE 754 by its definition, OCP FP8 and MX by theirs. */
export function naiveFloat(bits: number, format: FloatFormat | MinifloatFormat): number {
  const { exponent, fraction } = FIELDS[format];
  const f = bits % 2 ** fraction;
  const e = Math.floor(bits / 2 ** fraction) % 2 ** exponent;
  const sign = Math.floor(bits / 2 ** (fraction + exponent)) === 1 ? -1 : 1;
  const bias = 2 ** (exponent - 1) - 1;
  if (format === 'fp8e4m3' && bits % 128 === 127) return Number.NaN;
  if (e === 2 ** exponent - 1 && !FINITE.includes(format)) return f ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return e === 0 ? sign * f * 2 ** (1 - bias - fraction) : sign * (1 + f * 2 ** -fraction) * 2 ** (e - bias);
}

/** Bits of the nearest float, ties to the even code, by bisection over all values; for what is beyond, the code after the largest number, if there is one. */
export function nearestOracle(format: Exclude<FloatFormat, 'fp32'> | MinifloatFormat): (x: number) => number {
  const { exponent, fraction } = FIELDS[format];
  const signBit = 2 ** (exponent + fraction);
  const all = Array.from({ length: signBit }, (_, code) => naiveFloat(code, format));
  const beyond = all.findIndex((v) => !Number.isFinite(v));
  const infinity = beyond < 0 ? signBit - 1 : beyond; // the largest code of a format that has nothing beyond its numbers
  const values = all.slice(0, beyond < 0 ? signBit : infinity);
  // for rounding, infinity stands where the next number would be: at the same distance, or at the next power of two
  const at = (code: number) => (code === beyond ? 2 * values[infinity - 1] - values[infinity - 2] : values[code]);
  return (x) => {
    const sign = x < 0 || Object.is(x, -0) ? signBit : 0;
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
