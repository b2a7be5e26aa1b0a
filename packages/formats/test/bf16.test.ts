import { bf16ToFloat, decodeFloats, encodeFloats, floatToBf16 } from '@lmq/formats';
import { createRng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { naiveFloat, nearestOracle } from './_bits.js';

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNan = (h: number) => (h & 0x7fff) > 0x7f80;
const nearest = nearestOracle('bf16');

describe('bf16, all 65,536 codes', () => {
  it('decode to their definition, alone and in arrays', () => {
    const values = decodeFloats('bf16', ALL);
    for (const h of ALL) {
      const want = naiveFloat(h, 'bf16');
      if (!Object.is(bf16ToFloat(h), want) || !Object.is(values[h], want)) expect.fail(`code ${h}: ${values[h]}, ${bf16ToFloat(h)}`);
    }
  });

  it('round-trip: numbers to themselves, NaN to the same NaN made quiet', () => {
    const back = encodeFloats('bf16', decodeFloats('bf16', ALL));
    for (const h of ALL) {
      const want = isNan(h) ? h | 0x40 : h;
      if (back[h] !== want) expect.fail(`code ${h} came back as ${back[h]}`);
      if (!isNan(h) && floatToBf16(bf16ToFloat(h)) !== h) expect.fail(`code ${h} alone`);
    }
  });

  it('are distinct and in order', () => {
    for (let h = 1; h <= 0x7f80; h++) {
      const up = bf16ToFloat(h) > bf16ToFloat(h - 1);
      const down = bf16ToFloat(0x8000 | h) < bf16ToFloat(0x8000 | (h - 1));
      if (!up || !down) expect.fail(`code ${h}`);
    }
  });

  it('round at every midpoint to even, and beside it to the nearer', () => {
    for (let h = 0; h < 0x7f80; h++) {
      const above = h === 0x7f7f ? 2 ** 128 : naiveFloat(h + 1, 'bf16');
      const middle = (naiveFloat(h, 'bf16') + above) / 2;
      const even = h % 2 === 0 ? h : h + 1;
      const step = middle * 2 ** -40;
      for (const [x, want] of [
        [middle, even],
        [middle - step, h],
        [middle + step, h + 1],
      ]) {
        if (floatToBf16(x) !== want || floatToBf16(-x) !== (want | 0x8000)) expect.fail(`${x}: ${floatToBf16(x)}, not ${want}`);
      }
      const [fromArray] = encodeFloats('bf16', Float32Array.of(middle)); // midpoints are float32 numbers
      if (fromArray !== even) expect.fail(`midpoint ${middle} in an array: ${fromArray}`);
    }
  });
});

describe('float32 to bf16', () => {
  it.each([
    [1, 0x3f80],
    [Math.PI, 0x4049],
    [0.1, 0x3dcd],
    [3.3895313892515355e38, 0x7f7f],
    [3.4e38, 0x7f80],
    [-3.4028234663852886e38, 0xff80],
    [2 ** -133, 1],
    [2 ** -134, 0],
    [3 * 2 ** -134, 2],
    [-0, 0x8000],
    [1 + 2 ** -8 + 2 ** -40, 0x3f81], // through float32 this would become a tie and then 1
    [Number.POSITIVE_INFINITY, 0x7f80],
    [Number.MAX_VALUE, 0x7f80],
  ])('%d → %d', (x, want) => {
    expect(floatToBf16(x)).toBe(want);
  });

  it('keeps a NaN a quiet NaN, also one whose payload would round away or carry over', () => {
    const src = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0x7fc00000).buffer);
    expect([...encodeFloats('bf16', src)]).toEqual([0x7fc0, 0xffc0, 0x7fff, 0x7fc0]);
    expect(floatToBf16(Number.NaN)).toBe(0x7fc0);
  });

  it('agrees with a search of all values on random bits', () => {
    const rng = createRng(18);
    const x = new Float32Array(100_000);
    const bits = new Uint32Array(x.buffer);
    for (let i = 0; i < x.length; i++) bits[i] = i % 2 ? rng.u32() : ((rng.u32() & 0xffff8000) >>> 0) + rng.below(3) - 1;
    const got = encodeFloats('bf16', x);
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(x[i])) continue;
      const want = nearest(x[i]);
      if (got[i] !== want || floatToBf16(x[i]) !== want) expect.fail(`${x[i]} (bits ${bits[i]}): ${got[i]}, not ${want}`);
    }
  });
});
