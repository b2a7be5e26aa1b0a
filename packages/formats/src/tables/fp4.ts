/**
 * FP4 of bitsandbytes: its own table, not E2M1. The numbers 0, 1/16, 8, 12, 4, 6, 2 and 3 by code, divided by 12; bit 3 is the sign, and
 * both zeros are positive. Source: bitsandbytes functional.py, get_4bit_type.
 * @module
 */

const TWELFTHS = [0, 0.0625, 8, 12, 4, 6, 2, 3];

/** Value of each code; float32 numbers. */
export const BITSANDBYTES_FP4: readonly number[] = /* @__PURE__ */ [...TWELFTHS, ...TWELFTHS.map((x) => 0 - x)].map((x) =>
  Math.fround(x / 12),
);
