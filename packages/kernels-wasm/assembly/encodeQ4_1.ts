/**
 * GGUF block type Q4_1: 32 weights to 20 bytes, as formats' `block-types/q4_1.ts`.
 * @module
 */
import { largest, nibbles, rangeCodes, reciprocal, smallest } from './blockCodes';
import { toHalf } from './toHalf';

export function encodeQ4_1(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    const min = smallest(x);
    const d: f32 = abs(largest(x) - min) / 15; // not -0
    const id = reciprocal(d);
    store<u16>(out, <u16>toHalf(d));
    store<u16>(out, <u16>toHalf(min), 2);
    v128.store(out + 4, nibbles(rangeCodes(x, min, id, 15), rangeCodes(x + 64, min, id, 15)));
    x += 128;
    out += 20;
  }
}
