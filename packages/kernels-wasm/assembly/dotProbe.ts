/**
 * What relaxed SIMD's dot product of bytes is here. The first operand has signed bytes; the second has 7 bits, and where it has 8 the standard leaves it to the
 * engine whether they are signed, and whether sums of two products saturate in 16 bits (WebAssembly 3.0, relaxed operations). V8: signed on Arm and
 * with AVX-VNNI-INT8, unsigned with AVX-VNNI, else unsigned and saturating. The first compiler of Node 20 (with its flag) is wrong with 7 bits too;
 * that of Node 24 on Arm wraps (-128)² + (-128)² in 16 bits, which its second one does not, so a signed operand may not be -128 here.
 * @module
 */

/** First operands: both ends of the range, alone and side by side, and others. */
// @ts-ignore: decorator
@inline
function left(i: i32): i32 {
  return i & 2 ? 127 : i & 8 ? i - 20 : -128;
}

/** Whether dot products are exact with second operands of least … least + range - 1. */
function isExact(at: usize, least: i32, range: i32): bool {
  for (let round = 0; round < 16; round++) {
    for (let i = 0; i < 16; i++) {
      store<i8>(at + <usize>i, <i8>left(i + round));
      store<i8>(at + 16 + <usize>i, <i8>(least + ((i + round) & 4 ? range - 1 : (i * 37 * round) % range)));
    }
    v128.store(at + 32, i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(at), v128.load(at, 16), i32x4.splat(1 << 20)));
    for (let lane = 0; lane < 4; lane++) {
      let sum = 1 << 20;
      for (let i = lane << 2; i < (lane + 1) << 2; i++) {
        const b = load<u8>(at + 16 + <usize>i);
        sum += <i32>load<i8>(at + <usize>i) * (least < 0 ? <i32>(<i8>b) : <i32>b);
      }
      if (load<i32>(at + 32 + ((<usize>lane) << 2)) != sum) return false;
    }
  }
  return true;
}

/**
 * 0: wrong; 1: right with a second operand of 0 … 127; 2: with all of 0 … 255; 3: with all of -127 … 127.
 * @param at 48 bytes of scratch memory
 */
export function dotProbe(at: usize): i32 {
  if (!isExact(at, 0, 128)) return 0;
  if (isExact(at, 0, 256)) return 2;
  return isExact(at, -127, 255) ? 3 : 1;
}
