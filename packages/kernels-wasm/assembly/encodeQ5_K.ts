/**
 * GGUF block type Q5_K: 256 weights to 176 bytes, as formats' `block-types/q5_k.ts`.
 * @module
 */
import { kHeader } from './kHeader';
import { nibbles } from './blockCodes';

const codes = memory.data(256, 16);

export function encodeQ5_K(x: usize, out: usize, blocks: i32): void {
  const low = i8x16.splat(15);
  const fifth = i8x16.splat(16);
  for (; blocks > 0; blocks--) {
    kHeader(x, 31, -0.5, 15, codes, out);
    for (let l: usize = 0; l < 32; l += 16) {
      let high = i8x16.splat(0);
      for (let k: usize = 0; k < 4; k++) {
        const a = v128.load(codes + (k << 6) + l);
        const b = v128.load(codes + (k << 6) + l, 32);
        v128.store(out + (k << 5) + l, nibbles(v128.and(a, low), v128.and(b, low)), 48);
        // the bits of the later sub-blocks push those of the earlier ones down; the last come in at the top
        high = v128.or(i16x8.shr_u(high, 2), v128.or(i16x8.shl(v128.and(a, fifth), 2), i16x8.shl(v128.and(b, fifth), 3)));
      }
      v128.store(out + l, high, 16);
    }
    x += 1024;
    out += 176;
  }
}
