/**
 * NF4, "NormalFloat": 16 levels that are quantiles of the normal distribution, 8 of them positive, 7 negative, and 0; the extremes are ±1.
 * Source: Dettmers et al., QLoRA (arXiv 2305.14314), appendix E; numbers as in bitsandbytes functional.py.
 * @module
 */

/** Value of each code; float32 numbers, rising. */
export const NF4: readonly number[] = /* @__PURE__ */ [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1,
].map(Math.fround);
