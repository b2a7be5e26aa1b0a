/**
 * FP4 E2M1 codes as ggml's MXFP4 and NVFP4 use them: values doubled, so that they are whole numbers, and scales halved.
 * @module
 */

/** Doubled values by code; bit 3 is the sign. */
export const DOUBLED_E2M1: readonly number[] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/**
 * Code of the doubled value nearest to `x / scale`, ties towards zero; zero is code 0. The reference goes through all 16 codes and keeps
 * the first of least error: the same, since float32 errors are exact where two codes are about as near.
 */
export function nearestE2m1(x: number, scale: number): number {
  const a = Math.abs(x);
  if (a <= 0.5 * scale || scale === 0) return 0;
  const sign = x < 0 ? 8 : 0;
  if (a <= 2.5 * scale) return sign | (a <= 1.5 * scale ? 1 : 2);
  if (a <= 5 * scale) return sign | (a <= 3.5 * scale ? 3 : 4);
  return sign | (a <= 7 * scale ? 5 : a <= 10 * scale ? 6 : 7);
}
