/**
 * 32 codes of 5 bits as Q5_0 and Q5_1 store them in 20 bytes: formats' `_fifth-bit.ts`.
 * @module
 */
import { nibbles } from './blockCodes';

/** a: codes 0 … 15, b: 16 … 31. */
// @ts-ignore: decorator
@inline
export function storeFifthBit(out: usize, a: v128, b: v128): void {
  store<u32>(out, i8x16.bitmask(i16x8.shl(a, 3)) | (i8x16.bitmask(i16x8.shl(b, 3)) << 16)); // the fifth bit on top of its byte
  const low = i8x16.splat(15);
  v128.store(out + 4, nibbles(v128.and(a, low), v128.and(b, low)));
}
