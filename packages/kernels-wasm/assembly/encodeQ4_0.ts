/**
 * GGUF block type Q4_0: 32 weights to 18 bytes, as formats' `block-types/q4_0.ts`.
 * @module
 */
import { extreme, nibbles, reciprocal, symmetricCodes } from './blockCodes';
import { toHalf } from './toHalf';

export function encodeQ4_0(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    const d: f32 = extreme(x) / -8;
    const id = reciprocal(d);
    const offset: f32 = id == 0 && d != 0 ? 0 : 8.5;
    store<u16>(out, <u16>toHalf(d));
    v128.store(out + 2, nibbles(symmetricCodes(x, id, offset, 15), symmetricCodes(x + 64, id, offset, 15)));
    x += 128;
    out += 18;
  }
}
