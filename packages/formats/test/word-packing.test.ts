import {
  compressedTensorsPackings,
  packAwq,
  packCompressedTensors,
  packGptqWeight,
  packGptqZeros,
  unpackAwq,
  unpackCompressedTensors,
  unpackGptqWeight,
  unpackGptqZeros,
} from '@lmq/formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fnv, golden, ints } from './_golden.js';
import { thrown } from './_thrown.js';

const cases = (format: string) => golden.packing.filter((g) => g.format === format);
const hex = (words: Int32Array) => [...words].map((w) => (w >>> 0).toString(16));

describe('GPTQ', () => {
  it.each(cases('gptq'))('$bits bits: the words of AutoGPTQ', ({ bits, rows, cols, group = 1, words, zeros }) => {
    const codes = ints(40 + bits, rows, cols, bits);
    const z = ints(50 + bits, rows, cols / group, bits).map((v) => Math.max(v, 1));
    const packed = packGptqWeight(codes, bits, rows, cols);
    expect(fnv(packed)).toBe(words);
    expect(unpackGptqWeight(packed, bits, rows, cols)).toEqual(codes);
    const v1 = packGptqZeros(z, bits, rows, cols / group, 'v1');
    expect(fnv(v1)).toBe(zeros);
    expect(unpackGptqZeros(v1, bits, rows, cols / group, 'v1')).toEqual(z);
    const v2 = packGptqZeros(z, bits, rows, cols / group, 'v2');
    expect(unpackGptqZeros(v2, bits, rows, cols / group, 'v2')).toEqual(z);
    expect(unpackGptqZeros(v2, bits, rows, cols / group, 'v1')).toEqual(z.map((v) => (v + 1) % 2 ** bits));
  });

  it('symmetric zero points are sevens in version 1 and eights in version 2', () => {
    const middle = new Uint8Array(32).fill(8);
    expect(hex(packGptqZeros(middle, 4, 32, 1, 'v1'))).toEqual(Array(4).fill('77777777'));
    expect(hex(packGptqZeros(middle, 4, 32, 1, 'v2'))).toEqual(Array(4).fill('88888888'));
  });

  it('version 1 cannot hold a zero point of 0, and reads a lane of ones as one', () => {
    const zeros = new Uint8Array(32).fill(1);
    zeros[5] = 0;
    expect(thrown(() => packGptqZeros(zeros, 3, 32, 1, 'v1')).message).toContain('zero point 5');
    expect(unpackGptqZeros(packGptqZeros(zeros, 3, 32, 1, 'v2'), 3, 32, 1, 'v2')).toEqual(zeros);
    expect([...unpackGptqZeros(new Int32Array(4).fill(-1), 4, 32, 1, 'v1')]).toEqual(Array(32).fill(0));
  });

  it('refuses other bits, widths and lengths', () => {
    expect(thrown(() => packGptqWeight(new Uint8Array(64), 5, 2, 32)).code).toBe('argument/option');
    expect(thrown(() => packGptqWeight(new Uint8Array(32), 4, 2, 16)).code).toBe('argument/shape');
    expect(thrown(() => packGptqWeight(new Uint8Array(63), 4, 2, 32)).code).toBe('argument/shape');
    expect(thrown(() => packGptqWeight(new Uint8Array(64).fill(16), 4, 2, 32)).code).toBe('argument/value');
    expect(thrown(() => unpackGptqWeight(new Int32Array(7), 4, 2, 32)).code).toBe('argument/shape');
    expect(thrown(() => packGptqZeros(new Uint8Array(32), 4, 32, 1, 'v3' as 'v2')).code).toBe('argument/option');
    expect(thrown(() => packGptqZeros(new Uint8Array(31), 4, 32, 1, 'v2')).code).toBe('argument/shape');
    expect(thrown(() => unpackGptqZeros(new Int32Array(5), 4, 32, 1, 'v2')).code).toBe('argument/shape');
  });
});

describe('AWQ', () => {
  it.each(cases('awq'))('the words of AutoAWQ', ({ rows, cols, group = 1, words, zeros }) => {
    const codes = ints(60, rows, cols, 4);
    const z = ints(61, rows, cols / group, 4);
    expect(fnv(packAwq(codes, rows, cols))).toBe(words);
    expect(fnv(packAwq(z, rows, cols / group))).toBe(zeros);
    expect(unpackAwq(packAwq(codes, rows, cols), rows, cols)).toEqual(codes);
  });

  it('columns of a word lie in the order 0, 2, 4, 6, 1, 3, 5, 7', () => {
    expect(hex(packAwq(Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7), 8, 1))).toEqual(['75316420']);
  });

  it('refuses other widths, lengths and codes', () => {
    expect(thrown(() => packAwq(new Uint8Array(12), 12, 1)).code).toBe('argument/shape');
    expect(thrown(() => packAwq(new Uint8Array(9), 8, 1)).code).toBe('argument/shape');
    expect(thrown(() => packAwq(new Uint8Array(8).fill(16), 8, 1)).code).toBe('argument/value');
    expect(thrown(() => unpackAwq(new Int32Array(2), 8, 1)).code).toBe('argument/shape');
  });
});

describe('compressed-tensors', () => {
  it.each(cases('compressed-tensors'))('$bits bits, [$rows, $cols] along $along, $packing: its own words', (g) => {
    const codes = ints(30 + g.bits, g.rows, g.cols, g.bits);
    const opts = { packing: g.packing!, along: g.along! };
    const words = packCompressedTensors(codes, g.bits, g.rows, g.cols, opts);
    expect(fnv(words)).toBe(g.words);
    expect(unpackCompressedTensors(words, g.bits, g.rows, g.cols, opts)).toEqual(codes);
  });

  it('come back from any width, along both axes', () => {
    const any = fc.record({
      bits: fc.integer({ min: 1, max: 8 }),
      rows: fc.integer({ min: 1, max: 40 }),
      cols: fc.integer({ min: 1, max: 40 }),
      packing: fc.constantFrom('stream' as const, 'whole' as const),
      along: fc.constantFrom('rows' as const, 'cols' as const),
    });
    fc.assert(
      fc.property(any, ({ bits, rows, cols, ...opts }) => {
        const codes = ints(rows, rows, cols, bits);
        const words = packCompressedTensors(codes, bits, rows, cols, opts);
        expect(unpackCompressedTensors(words, bits, rows, cols, opts)).toEqual(codes);
        const n = opts.along === 'rows' ? rows : cols;
        expect(compressedTensorsPackings(n, bits, (words.length * n) / (rows * cols))).toContain(opts.packing);
      }),
    );
  });

  it('tell the packings apart by width', () => {
    expect(compressedTensorsPackings(128, 3, 12)).toEqual(['stream']);
    expect(compressedTensorsPackings(128, 3, 13)).toEqual(['whole']);
    expect(compressedTensorsPackings(20, 3, 2)).toEqual(['stream', 'whole']);
    expect(compressedTensorsPackings(128, 4, 16)).toEqual(['stream', 'whole']);
    expect(compressedTensorsPackings(128, 4, 15)).toEqual([]);
  });

  it('refuse other bits, options and lengths', () => {
    const codes = new Uint8Array(6);
    expect(thrown(() => packCompressedTensors(codes, 9, 2, 3, { packing: 'stream' })).code).toBe('argument/option');
    expect(thrown(() => packCompressedTensors(codes, 4, 2, 3, { packing: 'x' as 'stream' })).code).toBe('argument/option');
    expect(thrown(() => packCompressedTensors(codes, 4, 2, 3, { packing: 'stream', along: 'x' as 'rows' })).code).toBe('argument/option');
    expect(thrown(() => packCompressedTensors(codes, 4, 2, 4, { packing: 'whole' })).code).toBe('argument/shape');
    expect(thrown(() => packCompressedTensors(codes.fill(8), 3, 2, 3, { packing: 'whole' })).code).toBe('argument/value');
    expect(thrown(() => unpackCompressedTensors(new Int32Array(3), 4, 2, 3, { packing: 'stream' })).code).toBe('argument/shape');
    expect(thrown(() => unpackCompressedTensors(new Int32Array(2), 4, 2, 3, { packing: 'whole', along: 'rows' })).code).toBe(
      'argument/shape',
    );
  });
});
