/**
 * A seeded random number generator: sfc32 (Chris Doty-Humphrey, PractRand), seeded through SplitMix32. Same numbers everywhere; 32-bit
 * integer arithmetic only. Not for cryptography.
 * @module
 */
import { checkInteger } from './options.js';

/** Draws from one stream. */
export interface Rng {
  /** Uniform 32-bit unsigned integer. */
  u32(): number;
  /** Uniform in [0, 1), 53 bits. */
  uniform(): number;
  /** Standard normal (Box and Muller, one of the pair). */
  normal(): number;
  /** Uniform integer in [0, n), unbiased. @throws LmqError `argument/option` unless n is an integer in 1 … 2^32 */
  below(n: number): number;
  /** Shuffles in place (Fisher and Yates) and returns the same array. */
  shuffle<T>(items: T[]): T[];
}

/**
 * Starts a stream.
 * @param seed any integer; only its low 32 bits count. Default 0.
 */
export function createRng(seed = 0): Rng {
  let mix = seed | 0;
  const next = () => {
    mix = (mix + 0x9e3779b9) | 0;
    let z = mix ^ (mix >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return z ^ (z >>> 15);
  };
  let a = next();
  let b = next();
  let c = next();
  let counter = 1;
  const u32 = () => {
    const out = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + out;
    c |= 0;
    return out >>> 0;
  };
  for (let i = 0; i < 12; i++) u32(); // the author's warm-up
  const uniform = () => ((u32() >>> 5) * 67108864 + (u32() >>> 6)) / 9007199254740992;
  const below = (n: number) => {
    checkInteger(n, 'n', 1, 4294967296, 'below'); // a larger one would never be accepted below
    const limit = 4294967296 - (4294967296 % n); // reject the tail that would favour small values
    let x = u32();
    while (x >= limit) x = u32();
    return x % n;
  };
  return {
    u32,
    uniform,
    below,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    shuffle: (items) => {
      for (let i = items.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [items[i], items[j]] = [items[j]!, items[i]!];
      }
      return items;
    },
  };
}
