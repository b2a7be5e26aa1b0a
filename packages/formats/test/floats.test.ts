import { bf16ToFloat, decodeFloats, encodeFloats, floatToBf16, floatToFp16, fp16ToFloat, roundToFormat } from '@lmq/formats';
import { type FloatFormat, isLmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { thrown } from './_thrown.js';

describe('encodeFloats, decodeFloats', () => {
  it.each(['fp32', 'fp16', 'bf16'] as const)('%s: ranges, given outputs and views into larger memory', (format) => {
    const memory = Float32Array.from({ length: 20 }, (_, i) => i / 8 - 1);
    const src = memory.subarray(3, 13); // a view that does not begin where its buffer does
    const data = encodeFloats(format, src);
    expect(data).toBeInstanceOf(format === 'fp32' ? Float32Array : Uint16Array);
    expect([...decodeFloats(format, data)]).toEqual([...src]);
    expect([...decodeFloats(format, data, undefined, 4, 7)]).toEqual([...src.slice(4, 7)]);
    const out = new Float32Array(8).fill(9);
    expect(decodeFloats(format, data, out.subarray(2), 1, 3)).toEqual(out.subarray(2));
    expect([...out]).toEqual([9, 9, src[1], src[2], 9, 9, 9, 9]);
    expect(decodeFloats(format, data, undefined, 5, 5)).toHaveLength(0);
  });

  it('fp32 is copied, both ways', () => {
    const src = Float32Array.of(1, 2);
    const data = encodeFloats('fp32', src);
    const back = decodeFloats('fp32', data);
    src[0] = 5;
    data[1] = 6;
    expect([...data, ...back]).toEqual([1, 6, 1, 2]);
  });

  it('refuses what does not fit', () => {
    expect(thrown(() => decodeFloats('fp16', new Float32Array(2))).code).toBe('argument/value');
    expect(thrown(() => decodeFloats('fp32', new Uint16Array(2))).code).toBe('argument/value');
    expect(thrown(() => decodeFloats('fp16', new Uint16Array(2), undefined, 0, 3)).code).toBe('argument/shape');
    expect(thrown(() => decodeFloats('fp16', new Uint16Array(2), undefined, 2, 1)).code).toBe('argument/shape');
    expect(thrown(() => decodeFloats('fp16', new Uint16Array(2), new Float32Array(1))).code).toBe('argument/shape');
    for (const unknown of ['fp8', 'constructor'] as unknown as FloatFormat[]) {
      for (const f of [
        () => decodeFloats(unknown, new Uint16Array(1)),
        () => encodeFloats(unknown, new Float32Array(1)),
        () => roundToFormat(1, unknown),
      ]) {
        expect(thrown(f).code).toBe('argument/option');
        expect(isLmqError(thrown(f))).toBe(true);
      }
    }
  });
});

describe('roundToFormat', () => {
  it('is decode after encode', () => {
    for (const x of [Math.PI, -1e-7, 70000, 1e39, 0.1, -0]) {
      expect(roundToFormat(x, 'fp32')).toBe(Math.fround(x));
      expect(roundToFormat(x, 'fp16')).toBe(fp16ToFloat(floatToFp16(x)));
      expect(roundToFormat(x, 'bf16')).toBe(bf16ToFloat(floatToBf16(x)));
    }
    expect(roundToFormat(0.1, 'fp16')).toBe(0.0999755859375);
    expect(roundToFormat(0.1, 'bf16')).toBe(0.10009765625);
  });
});
