/**
 * A double as float32 bits that round correctly once more.
 * @module
 */

/** Scratch for one conversion at a time: nothing is kept between calls. */
const f = /* @__PURE__ */ new Float32Array(1);
const i = /* @__PURE__ */ new Int32Array(f.buffer);

/** The float32 with these bits. */
export function float32FromBits(bits: number): number {
  i[0] = bits;
  return f[0];
}

/** The bits of a float32, as a signed integer. */
export function float32Bits(x: number): number {
  f[0] = x;
  return i[0];
}

/**
 * Bits of `x` rounded to float32 by truncation, the last bit set when anything was cut off ("round to odd"). Rounding these bits to nearest
 * in a format with at least two bits fewer gives the same as rounding `x` itself, which rounding twice to nearest would not.
 */
export function oddFloat32Bits(x: number): number {
  f[0] = x;
  if (f[0] !== x && !Number.isNaN(x)) {
    if (Math.abs(f[0]) > Math.abs(x)) i[0]--; // one step towards zero: the bits of a float order its magnitude
    i[0] |= 1;
  }
  return i[0];
}
