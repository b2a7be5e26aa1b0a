/**
 * AF4, "AbnormalFloat": 16 levels that minimize the expected absolute error of normal numbers in blocks of 64 scaled by their largest
 * magnitude. Source: Yoshida, NF4 Isn't Information Theoretically Optimal (arXiv 2306.06965); codes as in bitsandbytes functional.py, where
 * they fall.
 * @module
 */

/** Value of each code; float32 numbers, falling from 1 to -1. */
export const AF4: readonly number[] = /* @__PURE__ */ [
  1, 0.72424863, 0.55496234, 0.42563882, 0.31675666, 0.21961274, 0.12934483, 0.04273164, 0, -0.04934812, -0.14982478, -0.25607552,
  -0.3736951, -0.51243739, -0.69441008, -1,
].map(Math.fround);
