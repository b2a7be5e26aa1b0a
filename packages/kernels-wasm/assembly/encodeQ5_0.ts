/**
 * GGUF block type Q5_0: 32 weights to 22 bytes, as formats' `block-types/q5_0.ts`.
 * @module
 */
import { extreme, reciprocal, symmetricCodes } from './blockCodes';
import { storeFifthBit } from './fifthBit';
import { toHalf } from './toHalf';

export function encodeQ5_0(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    const d: f32 = extreme(x) / -16;
    const id = reciprocal(d);
    const offset: f32 = id == 0 && d != 0 ? 0 : 16.5;
    store<u16>(out, <u16>toHalf(d));
    storeFifthBit(out + 2, symmetricCodes(x, id, offset, 31), symmetricCodes(x + 64, id, offset, 31));
    x += 128;
    out += 22;
  }
}
