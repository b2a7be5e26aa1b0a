/**
 * Steps that the encoders of GGUF blocks share. Every float32 step is one of formats' `block-types`, so that bytes are the same.
 * @module
 */

/** Adding it to a float of magnitude below 2^22 leaves its whole number in the low bits. */
const MAGIC: f32 = 12582912;

/** Floats that are whole numbers below 2^22 to integers: cheaper than a conversion, which takes care of NaN and of what is too large. */
// @ts-ignore: decorator
@inline
export function wholes(v: v128): v128 {
  return i32x4.sub(f32x4.add(v, f32x4.splat(MAGIC)), i32x4.splat(reinterpret<i32>(MAGIC)));
}

/** Four vectors of whole numbers in 0 … 255 as 16 bytes. */
// @ts-ignore: decorator
@inline
export function bytesOf(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(wholes(a), wholes(b)), i16x8.narrow_i32x4_s(wholes(c), wholes(d)));
}

/** Nibbles of two vectors of codes below 16: low from a, high from b. */
// @ts-ignore: decorator
@inline
export function nibbles(a: v128, b: v128): v128 {
  return v128.or(a, i16x8.shl(b, 4));
}

/** Largest lane; no NaN. */
// @ts-ignore: decorator
@inline
export function largestLane(v: v128): f32 {
  v = f32x4.pmax(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2)), 0);
}

/** Of 32 floats, the first of largest magnitude, with its sign. */
// @ts-ignore: decorator
@inline
export function extreme(x: usize): f32 {
  let high = v128.load(x);
  let low = high;
  for (let at: usize = 16; at < 128; at += 16) {
    const v = v128.load(x + at);
    high = f32x4.pmax(high, v);
    low = f32x4.pmin(low, v);
  }
  const most = largestLane(high);
  const least = -largestLane(f32x4.neg(low));
  if (most > -least) return most;
  if (most < -least) return least;
  while (abs(load<f32>(x)) != most) x += 4; // both signs, or all zero: the first
  return load<f32>(x);
}

/** 16 codes `min(most, trunc(x * inverse + offset))`. */
// @ts-ignore: decorator
@inline
export function symmetricCodes(x: usize, inverse: f32, offset: f32, most: i8): v128 {
  const id = f32x4.splat(inverse);
  const o = f32x4.splat(offset);
  const codes = bytesOf(
    f32x4.trunc(f32x4.add(f32x4.mul(v128.load(x), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(v128.load(x, 16), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(v128.load(x, 32), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(v128.load(x, 48), id), o)),
  );
  return i8x16.min_u(codes, i8x16.splat(most));
}

/** The smallest of 32 floats; of zeros of both signs, the first. */
// @ts-ignore: decorator
@inline
export function smallest(x: usize): f32 {
  let low = v128.load(x);
  for (let at: usize = 16; at < 128; at += 16) low = f32x4.pmin(low, v128.load(x + at));
  const least = -largestLane(f32x4.neg(low));
  if (least != 0) return least;
  while (load<f32>(x) != 0) x += 4;
  return load<f32>(x);
}

/** The largest of 32 floats. */
// @ts-ignore: decorator
@inline
export function largest(x: usize): f32 {
  let high = v128.load(x);
  for (let at: usize = 16; at < 128; at += 16) high = f32x4.pmax(high, v128.load(x + at));
  return largestLane(high);
}

/** 16 codes `min(most, trunc((x - least) * inverse + 0.5))`. */
// @ts-ignore: decorator
@inline
export function rangeCodes(x: usize, least: f32, inverse: f32, most: i8): v128 {
  const m = f32x4.splat(least);
  const id = f32x4.splat(inverse);
  const o = f32x4.splat(0.5);
  const codes = bytesOf(
    f32x4.trunc(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x), m), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x, 16), m), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x, 32), m), id), o)),
    f32x4.trunc(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x, 48), m), id), o)),
  );
  return i8x16.min_u(codes, i8x16.splat(most));
}

/** Reciprocal of a scale; 0 where it is 0, and where it would be infinite: all codes are 0 then, as from JavaScript's conversion. */
// @ts-ignore: decorator
@inline
export function reciprocal(d: f32): f32 {
  const id: f32 = d == 0 ? 0 : <f32>1 / d;
  return abs(id) == Infinity ? 0 : id;
}
