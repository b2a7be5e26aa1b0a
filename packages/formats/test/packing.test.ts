import { packRows, packStream, rowBytes, unpackRows, unpackStream } from '@lmq/formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { thrown } from './_thrown.js';

/** Bit k of the stream is bit k % 8 of byte floor(k / 8). */
function naivePack(codes: Iterable<number>, bits: number): number[] {
  const stream = [...codes].flatMap((c) => Array.from({ length: bits }, (_, b) => (c >> b) & 1));
  return Array.from({ length: Math.ceil(stream.length / 8) }, (_, i) =>
    stream.slice(8 * i, 8 * i + 8).reduce((byte, bit, b) => byte | (bit << b), 0),
  );
}

const codesOf = (bits: number, minLength = 0) => fc.uint8Array({ minLength, maxLength: 70, max: 2 ** bits - 1 });
const anyCodes = fc.integer({ min: 1, max: 8 }).chain((bits) => fc.record({ bits: fc.constant(bits), codes: codesOf(bits) }));

describe('streams', () => {
  it('put the lowest bits first', () => {
    fc.assert(
      fc.property(anyCodes, ({ bits, codes }) => {
        const packed = packStream(codes, bits);
        expect([...packed]).toEqual(naivePack(codes, bits));
        expect(unpackStream(packed, bits, codes.length)).toEqual(codes);
      }),
      { numRuns: 400 },
    );
  });

  it('are read from any start', () => {
    fc.assert(
      fc.property(anyCodes, fc.nat(70), fc.nat(70), ({ bits, codes }, a, b) => {
        const start = Math.min(a, codes.length);
        const count = Math.min(b, codes.length - start);
        expect(unpackStream(packStream(codes, bits), bits, count, undefined, start)).toEqual(codes.slice(start, start + count));
      }),
      { numRuns: 400 },
    );
  });

  it('three-bit values fill words as the GPTQ layout does: value i at bits 3i … 3i + 2', () => {
    const values = Uint8Array.from({ length: 32 }, (_, i) => (i * 5 + 3) % 8);
    const packed = packStream(values, 3);
    expect(packed).toHaveLength(12);
    const all = packed.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);
    values.forEach((v, i) => {
      expect(Number((all >> BigInt(3 * i)) & 7n)).toBe(v);
    });
  });
});

describe('rows', () => {
  it('start on a byte each, for every width and bits 1 … 8', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 35 }),
        fc.infiniteStream(fc.nat(255)),
        (bits, rows, cols, random) => {
          const codes = Uint8Array.from({ length: rows * cols }, () => (random.next().value as number) >> (8 - bits));
          const packed = packRows(codes, bits, rows, cols);
          const want = Array.from({ length: rows }, (_, r) => naivePack(codes.subarray(r * cols, (r + 1) * cols), bits)).flat();
          expect([...packed]).toEqual(want);
          expect(packed).toHaveLength(rows * rowBytes(cols, bits));
          expect(unpackRows(packed, bits, rows, cols)).toEqual(codes);
          // bits after a row's last code are ignored
          const spare = 8 * rowBytes(cols, bits) - cols * bits;
          packed[packed.length - 1] |= 0xff & ~(0xff >> spare);
          expect(unpackRows(packed, bits, rows, cols)).toEqual(codes);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('rowBytes rounds up', () => {
    expect([rowBytes(10, 3), rowBytes(8, 1), rowBytes(9, 1), rowBytes(4096, 4), rowBytes(3, 8)]).toEqual([4, 1, 2, 2048, 3]);
  });

  it('writes into a given array', () => {
    const out = new Uint8Array(4).fill(7);
    expect(unpackRows(Uint8Array.of(0x21), 4, 1, 2, out)).toBe(out);
    expect([...out]).toEqual([1, 2, 7, 7]);
  });
});

describe('refuses', () => {
  it('a code that needs more bits, by its place', () => {
    for (const bits of [1, 2, 3, 4, 5, 6, 7]) {
      const codes = new Uint8Array(22);
      codes[17] = 2 ** bits;
      const e = thrown(() => packRows(codes, bits, 2, 11));
      expect(e.code).toBe('argument/value');
      expect(e.message).toContain('code 17');
      expect(thrown(() => packStream(codes, bits)).code).toBe('argument/value');
    }
  });

  it('wrong bits and lengths', () => {
    for (const bits of [0, 9, 2.5, Number.NaN]) {
      expect(thrown(() => packRows(new Uint8Array(2), bits, 1, 2)).code).toBe('argument/option');
      expect(thrown(() => unpackRows(new Uint8Array(2), bits, 1, 2)).code).toBe('argument/option');
      expect(thrown(() => packStream(new Uint8Array(2), bits)).code).toBe('argument/option');
      expect(thrown(() => unpackStream(new Uint8Array(2), bits, 1)).code).toBe('argument/option');
    }
    expect(thrown(() => packRows(new Uint8Array(5), 4, 2, 3)).code).toBe('argument/shape');
    expect(thrown(() => unpackRows(new Uint8Array(3), 4, 2, 3)).code).toBe('argument/shape');
    expect(thrown(() => unpackRows(new Uint8Array(4), 4, 2, 3, new Uint8Array(5))).code).toBe('argument/shape');
    expect(thrown(() => unpackStream(new Uint8Array(1), 3, 3)).code).toBe('argument/shape');
    expect(thrown(() => unpackStream(new Uint8Array(4), 8, 2, undefined, 3)).code).toBe('argument/shape');
    expect(thrown(() => unpackStream(new Uint8Array(4), 8, 2, new Uint8Array(1))).code).toBe('argument/shape');
  });
});
