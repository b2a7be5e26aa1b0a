/**
 * GGUF block type Q5_1: 32 weights to 24 bytes, as formats' `block-types/q5_1.ts`.
 * @module
 */
import { largest, rangeCodes, reciprocal, smallest } from './blockCodes';
import { storeFifthBit } from './fifthBit';
import { toHalf } from './toHalf';

export function encodeQ5_1(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    const min = smallest(x);
    const d: f32 = abs(largest(x) - min) / 31; // not -0
    const id = reciprocal(d);
    store<u16>(out, <u16>toHalf(d));
    store<u16>(out, <u16>toHalf(min), 2);
    storeFifthBit(out + 4, rangeCodes(x, min, id, 31), rangeCodes(x + 64, min, id, 31));
    x += 128;
    out += 24;
  }
}
