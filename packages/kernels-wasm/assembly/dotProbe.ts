/**
 * What relaxed SIMD's dot product of bytes is here. The first operand has signed bytes; the second has 7 bits, and where it has 8 the standard leaves to the
 * engine whether they are signed and whether sums of two products saturate in 16 bits (WebAssembly core specification 3.0, relaxed operations). One choice holds
 * for all of a program, so it can be looked up. V8: signed with AVX-VNNI-INT8 and Arm's sdot, unsigned with AVX-VNNI, else saturating. The first
 * compiler of Node 20 (with its flag) is wrong with 7 bits too.
 * @module
 */

/** Lanes that meet the ends of every range, in pairs of the same sign and of different ones. */
// @ts-ignore: decorator
@inline
function left(i: i32): i32 {
  return i & 2 ? 127 : i & 8 ? i - 20 : -128;
}

/** Whether dot products are exact with a second operand of least + (0 … range - 1). */
function isExact(at: usize, least: i32, range: i32, signed: bool): bool {
  for (let round = 0; round < 16; round++) {
    for (let i = 0; i < 16; i++) {
      store<i8>(at + <usize>i, <i8>left(i + round));
      store<i8>(at + 16 + <usize>i, <i8>(least + (i + round & 4 ? range - 1 : (i * 37 * round) % range)));
    }
    v128.store(at + 32, i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(at), v128.load(at, 16), i32x4.splat(1 << 20)));
    for (let lane = 0; lane < 4; lane++) {
      let sum = 1 << 20;
      for (let i = lane << 2; i < (lane + 1) << 2; i++) {
        const b = load<u8>(at + 16 + <usize>i);
        sum += <i32>load<i8>(at + <usize>i) * (signed ? <i32>(<i8>b) : <i32>b);
      }
      if (load<i32>(at + 32 + ((<usize>lane) << 2)) != sum) return false;
    }
  }
  return true;
}

/**
 * 0: wrong; 1: right with a second operand of 0 … 127; 2: with all of 0 … 255; 3: with all of -128 … 127.
 * @param at 48 bytes of scratch memory
 */
export function dotProbe(at: usize): i32 {
  if (!isExact(at, 0, 128, false)) return 0;
  if (isExact(at, 0, 256, false)) return 2;
  return isExact(at, -128, 256, true) ? 3 : 1;
}
