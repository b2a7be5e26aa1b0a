import { readFileSync } from 'node:fs';
import { affineToMatMulNBits, decode, type MatMulNBits, matMulBlockSize, matMulNBitsToAffine, packRows, packStream } from '@lmq/formats';
import type { Affine } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ints } from './_golden.js';
import { thrown } from './_thrown.js';

/** Packed by ONNX Runtime's quantizer, multiplied by its operator: see golden/matmul-nbits.py. */
interface GoldenCase {
  bits: number;
  shape: [number, number];
  blockSize: number;
  codes: string;
  scales: string;
  zeroPoints?: string;
  decoded: string;
}
const { cases }: { cases: GoldenCase[] } = JSON.parse(readFileSync(new URL('./golden/matmul-nbits.json', import.meta.url), 'utf8'));
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
const floats = (hex: string) => new Float32Array(bytes(hex).buffer);

const named = cases.map(
  (c) => [`${c.bits} bits, [${c.shape}], blocks of ${c.blockSize}${c.zeroPoints ? ', zero points' : ''}`, c] as const,
);

describe('MatMulNBits', () => {
  it.each(named)('%s: the numbers and the bytes of ONNX Runtime', (_, c) => {
    const stored: MatMulNBits = {
      bits: c.bits,
      shape: c.shape,
      blockSize: c.blockSize,
      codes: bytes(c.codes),
      scaleFormat: 'fp32',
      scales: floats(c.scales),
      ...(c.zeroPoints && { zeroPoints: bytes(c.zeroPoints) }),
    };
    const affine = matMulNBitsToAffine(stored);
    expect(decode(affine).data.map((v) => v + 0)).toEqual(floats(c.decoded)); // products of 0 have no sign there
    expect(affineToMatMulNBits(affine)).toEqual(stored);
  });

  it('holds any groups of whole blocks without changing a number', () => {
    const affine = fc
      .record({
        bits: fc.constantFrom(4, 8),
        out: fc.integer({ min: 1, max: 5 }),
        inputs: fc.integer({ min: 1, max: 300 }),
        sixteens: fc.integer({ min: 1, max: 20 }),
        whole: fc.boolean(),
        seed: fc.nat(),
        asymmetric: fc.boolean(),
      })
      .map(({ bits, out, inputs, sixteens, whole, seed, asymmetric }): Affine => {
        const groupSize = whole ? inputs : Math.min(16 * sixteens, inputs);
        const groups = Math.ceil(inputs / groupSize);
        return {
          kind: 'affine',
          shape: [out, inputs],
          bits,
          groupSize,
          codes: packRows(ints(seed, out, inputs, bits), bits, out, inputs),
          scales: {
            block: [1, groupSize],
            format: 'fp32',
            data: Float32Array.from(ints(seed + 1, out, groups, 8), (v) => (v - 100) / 7),
          },
          ...(asymmetric && { zeroPoints: packStream(ints(seed + 2, out, groups, bits), bits) }),
        };
      });
    fc.assert(
      fc.property(affine, (t) => {
        const m = affineToMatMulNBits(t);
        expect(m.blockSize).toBe(matMulBlockSize(t.groupSize, t.shape[1]));
        expect(decode(matMulNBitsToAffine(m)).data).toEqual(decode(t).data);
      }),
    );
  });

  it('takes blocks of 16 to 256 columns', () => {
    expect([16, 32, 48, 96, 128, 640, 4096].map((g) => matMulBlockSize(g, 8192))).toEqual([16, 32, 16, 32, 128, 128, 256]);
    expect([8, 24, 40, 100].map((g) => matMulBlockSize(g, 8192))).toEqual([0, 0, 0, 0]);
    expect([matMulBlockSize(100, 100), matMulBlockSize(7, 7)]).toEqual([16, 16]);
  });

  it('refuses what the operator cannot hold, and says what is near', () => {
    const t: Affine = {
      kind: 'affine',
      shape: [2, 64],
      bits: 4,
      groupSize: 32,
      codes: new Uint8Array(64),
      scales: { block: [1, 32], format: 'fp32', data: new Float32Array(4).fill(1) },
    };
    const refusal = (change: Partial<Affine>) => {
      const e = thrown(() => affineToMatMulNBits({ ...t, ...change }));
      return `${e.code} ${e.facts.found} ${e.facts.hint}`;
    };
    expect(refusal({ bits: 3, codes: new Uint8Array(48) })).toBe('export/unsupported 3 Use 4 bits.');
    expect(refusal({ bits: 5, codes: new Uint8Array(80) })).toBe('export/unsupported 5 Use 8 bits.');
    expect(refusal({ zeroPoints: { format: 'fp32', data: new Float32Array(4).fill(7.5) } })).toContain('7.5 Use integer zero points.');
    expect(refusal({ groupIndex: new Int32Array(64) })).toContain('act-order Use static groups.');
    const groupsOf8 = { block: [1, 8] as [number, number], format: 'fp32' as const, data: new Float32Array(16).fill(1) };
    expect(refusal({ groupSize: 8, scales: groupsOf8 })).toContain('8 Use groups of 32.');
    const rowsOf2 = { block: [2, 32] as [number, number], format: 'fp32' as const, data: new Float32Array(2).fill(1) };
    expect(refusal({ scales: rowsOf2 })).toContain('2 Use a scale per row.');
    expect(thrown(() => affineToMatMulNBits({ ...t, codes: new Uint8Array(63) })).code).toBe('argument/shape');
  });

  it('refuses constants that do not fit each other', () => {
    const good: MatMulNBits = {
      shape: [2, 40],
      bits: 4,
      blockSize: 16,
      codes: new Uint8Array(48),
      scaleFormat: 'fp32',
      scales: new Float32Array(6),
    };
    const code = (change: Partial<MatMulNBits>) => thrown(() => matMulNBitsToAffine({ ...good, ...change })).code;
    expect(matMulNBitsToAffine(good).shape).toEqual([2, 40]);
    expect(code({ codes: new Uint8Array(40) })).toBe('argument/shape');
    expect(code({ scales: new Float32Array(5) })).toBe('argument/shape');
    expect(code({ zeroPoints: new Uint8Array(3) })).toBe('argument/shape');
    expect(code({ scales: new Float32Array(6).fill(Number.NaN) })).toBe('argument/value');
  });
});
