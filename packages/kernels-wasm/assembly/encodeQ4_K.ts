/**
 * GGUF block type Q4_K: 256 weights to 144 bytes, as formats' `block-types/q4_k.ts`.
 * @module
 */
import { nibbles } from './blockCodes';
import { kHeader } from './kHeader';

const codes = memory.data(256, 16);

export function encodeQ4_K(x: usize, out: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    kHeader(x, 15, -1, 20, codes, out);
    for (let k: usize = 0; k < 4; k++) {
      const from = codes + (k << 6);
      const to = out + 16 + (k << 5);
      v128.store(to, nibbles(v128.load(from), v128.load(from, 32)));
      v128.store(to, nibbles(v128.load(from, 16), v128.load(from, 48)), 16);
    }
    x += 1024;
    out += 144;
  }
}
