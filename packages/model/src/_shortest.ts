/**
 * Numbers that a file held as float32, as a person wrote them.
 * @module
 */

/** The shortest decimal number that is the same float32: 1e-5, where a file holds 0.000009999999747378752. */
export function shortest(x: number): number {
  for (let digits = 1; digits <= 9; digits++) {
    const y = Number(x.toPrecision(digits));
    if (Math.fround(y) === Math.fround(x)) return y;
  }
  return x;
}
