/**
 * E8M0, the scale of the OCP MX formats: a power of two, `2 ** (code - 127)`; 0xff is NaN. There is no sign and no zero.
 * Source: OCP Microscaling Formats (MX) Specification v1.0, §5.4.1.
 * @module
 */

/** The value of E8M0 `code` (0 … 255), exactly: float32 holds all of them. */
export function e8m0ToFloat(code: number): number {
  return code === 255 ? Number.NaN : 2 ** (code - 127);
}

/** The value of each code. */
export const E8M0 = /* @__PURE__ */ Float32Array.from({ length: 256 }, (_, code) => e8m0ToFloat(code));

/** Code of the largest power of two that is not above `x`: 0 for all below 2^-126, 254 for all from 2^127; 255 for NaN. The sign is ignored. */
export function floorToE8m0(x: number): number {
  if (Number.isNaN(x)) return 255;
  const a = Math.abs(x);
  if (a < 2 ** -126) return 0;
  if (a >= 2 ** 127) return 254;
  let exponent = Math.floor(Math.log2(a)); // may be off by one beside a power of two
  if (2 ** exponent > a) exponent--;
  else if (2 ** (exponent + 1) <= a) exponent++;
  return exponent + 127;
}
