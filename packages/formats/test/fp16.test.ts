import { decodeFloats, encodeFloats, floatToFp16, fp16ToFloat } from '@lmq/formats';
import { createRng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { float32, naiveFloat, nearestOracle } from './_bits.js';

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNan = (h: number) => (h & 0x7fff) > 0x7c00;
const nearest = nearestOracle('fp16');

describe('fp16, all 65,536 codes', () => {
  it('decode to their definition, alone and in arrays', () => {
    const values = decodeFloats('fp16', ALL);
    for (const h of ALL) {
      const want = naiveFloat(h, 'fp16');
      if (!Object.is(fp16ToFloat(h), want) || !Object.is(values[h], want)) expect.fail(`code ${h}: ${values[h]}, ${fp16ToFloat(h)}`);
    }
  });

  it('round-trip: numbers to themselves, NaN to the same NaN made quiet', () => {
    const back = encodeFloats('fp16', decodeFloats('fp16', ALL));
    for (const h of ALL) {
      const want = isNan(h) ? h | 0x200 : h;
      if (back[h] !== want) expect.fail(`code ${h} came back as ${back[h]}`);
      if (!isNan(h) && floatToFp16(fp16ToFloat(h)) !== h) expect.fail(`code ${h} alone`);
    }
  });

  it('are distinct and in order', () => {
    for (let h = 1; h <= 0x7c00; h++) {
      const up = fp16ToFloat(h) > fp16ToFloat(h - 1);
      const down = fp16ToFloat(0x8000 | h) < fp16ToFloat(0x8000 | (h - 1));
      if (!up || !down) expect.fail(`code ${h}`);
    }
  });

  it('round at every midpoint to even, and beside it to the nearer', () => {
    for (let h = 0; h < 0x7c00; h++) {
      const above = h === 0x7bff ? 65536 : naiveFloat(h + 1, 'fp16');
      const middle = (naiveFloat(h, 'fp16') + above) / 2;
      const even = h % 2 === 0 ? h : h + 1;
      const step = middle * 2 ** -40; // far below what float32 would show
      for (const [x, want] of [
        [middle, even],
        [middle - step, h],
        [middle + step, h + 1],
      ]) {
        if (floatToFp16(x) !== want || floatToFp16(-x) !== (want | 0x8000)) expect.fail(`${x}: ${floatToFp16(x)}, not ${want}`);
      }
      const [fromArray] = encodeFloats('fp16', Float32Array.of(middle)); // midpoints are float32 numbers
      if (fromArray !== even) expect.fail(`midpoint ${middle} in an array: ${fromArray}`);
    }
  });
});

describe('float32 to fp16', () => {
  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [0.1, 0x2e66],
    [1 / 3, 0x3555],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-65520, 0xfc00],
    [65536, 0x7c00],
    [1e30, 0x7c00],
    [Number.POSITIVE_INFINITY, 0x7c00],
    [2 ** -14, 0x0400],
    [2 ** -14 - 2 ** -25, 0x0400], // rounds up into the normal numbers
    [2 ** -24, 1],
    [2 ** -25, 0],
    [-(2 ** -25), 0x8000],
    [2 ** -25 + 2 ** -48, 1],
    [3 * 2 ** -25, 2],
    [1e-45, 0],
    [0, 0],
    [-0, 0x8000],
    [1 + 2 ** -11 + 2 ** -40, 0x3c01], // through float32 this would become the tie 1 + 2^-11 and then 1
    [5e-324, 0],
    [Number.MAX_VALUE, 0x7c00],
  ])('%d → %d', (x, want) => {
    expect(floatToFp16(x)).toBe(want);
  });

  it('keeps sign and payload of a NaN and sets its quiet bit', () => {
    const src = new Float32Array(Uint32Array.of(0x7f800001, 0xff802000, 0x7fc00000, 0xffffffff).buffer);
    expect([...encodeFloats('fp16', src)]).toEqual([0x7e00, 0xfe01, 0x7e00, 0xffff]);
    expect(floatToFp16(Number.NaN)).toBe(0x7e00);
  });

  it('agrees with a search of all values on random bits and on floats next to every boundary', () => {
    const rng = createRng(16);
    const x = new Float32Array(200_000);
    const bits = new Uint32Array(x.buffer);
    for (let i = 0; i < 100_000; i++) bits[i] = rng.u32();
    for (let i = 100_000; i < x.length; i++) {
      // half codes and half midpoints, moved by up to two float32 steps: exponents that fp16 has, and some more
      const exponent = 100 + rng.below(46);
      bits[i] = ((rng.u32() & 1) << 31) | (exponent << 23) | (rng.below(2048) << 12);
      bits[i] += rng.below(5) - 2;
    }
    const got = encodeFloats('fp16', x);
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(x[i])) continue;
      const want = nearest(x[i]);
      if (got[i] !== want || floatToFp16(x[i]) !== want) expect.fail(`${x[i]} (bits ${bits[i]}): ${got[i]}, not ${want}`);
    }
  });

  it('agrees with the search on doubles', () => {
    const rng = createRng(17);
    for (let i = 0; i < 50_000; i++) {
      const x = rng.normal() * 2 ** (rng.below(44) - 27);
      if (floatToFp16(x) !== nearest(x)) expect.fail(`${x}`);
    }
    expect(nearest(float32(0x477fefff))).toBe(0x7bff); // the oracle itself, at the overflow threshold
  });
});
