/**
 * FP4 E2M1 codes as ggml's MXFP4 and NVFP4 use them: values doubled, so that they are whole numbers, and scales halved.
 * @module
 */

/** Doubled values by code; bit 3 is the sign. */
export const DOUBLED_E2M1: readonly number[] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** The code of what lies above (n - 1) / 2 and at most at n / 2 doubled steps, by n; then of the same below zero. */
const NEAREST = /* @__PURE__ */ Uint8Array.from({ length: 128 }, (_, i) => {
  const magnitude = [1, 3, 5, 7, 10, 14, 20].filter((tie) => i % 64 > tie).length;
  return magnitude === 0 ? 0 : magnitude + (i < 64 ? 0 : 8);
});

/**
 * Code of the doubled value nearest to `x / scale`, below 32 in magnitude; ties go towards zero, and zero is code 0. The reference goes
 * through all 16 codes and keeps the first of least error: the same, since float32 errors are exact where two codes are about as near.
 */
export function nearestE2m1(x: number, scale: number): number {
  if (scale === 0) return 0;
  const halfSteps = (2 * x) / scale;
  const negative = (halfSteps * 1024) >> 31; // no branch on the sign; what this takes for 0 becomes code 0 either way
  return NEAREST[Math.ceil(Math.abs(halfSteps)) + (negative & 64)];
}
