/**
 * Arrays of stored floats (fp32, fp16, bf16) to float32 and back. Decoding is exact; encoding rounds to nearest, ties to even.
 * @module
 */
import { type FloatData, type FloatFormat, LmqError } from '@lmq/tensor';
import { bf16FromFloat32Bits, bf16ToFloat, floatToBf16 } from './bf16.js';
import { floatToFp16, fp16FromFloat32Bits, fp16ToFloat, fp16ToFloat32Bits } from './fp16.js';

/** Bytes that one number takes. */
export const FLOAT_BYTES: Readonly<Record<FloatFormat, number>> = { fp32: 4, fp16: 2, bf16: 2 };

/**
 * Checks that `format` is known and that `data` has its element type.
 * @throws LmqError `argument/option` for an unknown format, `argument/value` for the wrong kind of array
 */
export function checkFloatData(format: FloatFormat, data: FloatData, op: string): void {
  if (!Object.hasOwn(FLOAT_BYTES, format)) {
    throw new LmqError('argument/option', 'unknown float format', { op, expected: Object.keys(FLOAT_BYTES).join(', '), found: format });
  }
  const want = format === 'fp32' ? 'Float32Array' : 'Uint16Array';
  if (!ArrayBuffer.isView(data) || Object.prototype.toString.call(data) !== `[object ${want}]`) {
    throw new LmqError('argument/value', `${format} data is in the wrong kind of array`, {
      op,
      expected: want,
      found: Object.prototype.toString.call(data).slice(8, -1),
    });
  }
}

/**
 * Stored form of float32 numbers. Always a new array.
 * @throws LmqError `argument/option` for an unknown format
 */
export function encodeFloats(format: FloatFormat, src: Float32Array): FloatData {
  if (format === 'fp32') return src.slice();
  const out = new Uint16Array(src.length);
  checkFloatData(format, out, 'encodeFloats');
  const bits = new Int32Array(src.buffer, src.byteOffset, src.length);
  if (format === 'fp16') for (let i = 0; i < out.length; i++) out[i] = fp16FromFloat32Bits(bits[i]);
  else for (let i = 0; i < out.length; i++) out[i] = bf16FromFloat32Bits(bits[i]);
  return out;
}

/**
 * float32 values of `data[from … to)`.
 * @param out receives them from its start; default a new array of `to - from`
 * @returns `out`
 * @throws LmqError `argument/option` for an unknown format, `argument/value` for the wrong kind of array, `argument/shape` when the range
 * leaves `data` or `out` is too short
 */
export function decodeFloats(format: FloatFormat, data: FloatData, out?: Float32Array, from = 0, to: number = data.length): Float32Array {
  checkFloatData(format, data, 'decodeFloats');
  const n = to - from;
  if (!(from >= 0 && n >= 0 && to <= data.length)) {
    throw new LmqError('argument/shape', 'the range leaves the data', {
      op: 'decodeFloats',
      expected: `0 … ${data.length}`,
      found: `${from} … ${to}`,
    });
  }
  const target = out ?? new Float32Array(n);
  if (target.length < n) {
    throw new LmqError('argument/shape', 'out is too short', { op: 'decodeFloats', expected: `at least ${n}`, found: target.length });
  }
  if (format === 'fp32') {
    target.set(data.subarray(from, to));
    return target;
  }
  const bits = new Int32Array(target.buffer, target.byteOffset, n);
  if (format === 'bf16') for (let i = 0; i < n; i++) bits[i] = data[from + i] << 16;
  else for (let i = 0; i < n; i++) bits[i] = fp16ToFloat32Bits(data[from + i]);
  return target;
}

/** The number of `format` nearest to `x`, ties to even. */
export function roundToFormat(x: number, format: FloatFormat): number {
  switch (format) {
    case 'fp32':
      return Math.fround(x);
    case 'fp16':
      return fp16ToFloat(floatToFp16(x));
    case 'bf16':
      return bf16ToFloat(floatToBf16(x));
    default:
      throw new LmqError('argument/option', 'unknown float format', {
        op: 'roundToFormat',
        expected: Object.keys(FLOAT_BYTES).join(', '),
        found: format,
      });
  }
}
