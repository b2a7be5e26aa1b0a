/**
 * Arrays of floats of 8 bits and fewer, one code per byte, to float32 and back. Decoding is exact; encoding rounds to nearest, ties to even.
 * Pack codes with `packRows`.
 * @module
 */
import { checkOneOf, LmqError, type MinifloatFormat } from '@lmq/tensor';
import type { SaturateOpts } from './_minifloat.js';
import { FLOAT_TRAITS } from './formats.js';
import { fp4e2m1FromFloat32Bits, fp4e2m1ToFloat } from './fp4e2m1.js';
import { fp6e2m3FromFloat32Bits, fp6e2m3ToFloat } from './fp6e2m3.js';
import { fp6e3m2FromFloat32Bits, fp6e3m2ToFloat } from './fp6e3m2.js';
import { fp8e4m3FromFloat32Bits, fp8e4m3ToFloat } from './fp8e4m3.js';
import { fp8e5m2FromFloat32Bits, fp8e5m2ToFloat } from './fp8e5m2.js';

export type { SaturateOpts } from './_minifloat.js';

interface Codec {
  values: Float32Array;
  fromFloat32Bits(x: number, saturate: boolean): number;
}

const codec = (format: MinifloatFormat, toFloat: (code: number) => number, fromFloat32Bits: Codec['fromFloat32Bits']): Codec => ({
  values: Float32Array.from({ length: 2 ** FLOAT_TRAITS[format].bits }, (_, code) => toFloat(code)),
  fromFloat32Bits,
});

const CODECS: Readonly<Record<MinifloatFormat, Codec>> = {
  fp8e4m3: /* @__PURE__ */ codec('fp8e4m3', fp8e4m3ToFloat, fp8e4m3FromFloat32Bits),
  fp8e5m2: /* @__PURE__ */ codec('fp8e5m2', fp8e5m2ToFloat, fp8e5m2FromFloat32Bits),
  fp6e2m3: /* @__PURE__ */ codec('fp6e2m3', fp6e2m3ToFloat, fp6e2m3FromFloat32Bits),
  fp6e3m2: /* @__PURE__ */ codec('fp6e3m2', fp6e3m2ToFloat, fp6e3m2FromFloat32Bits),
  fp4e2m1: /* @__PURE__ */ codec('fp4e2m1', fp4e2m1ToFloat, fp4e2m1FromFloat32Bits),
};

export const MINIFLOAT_FORMATS = /* @__PURE__ */ Object.keys(CODECS) as MinifloatFormat[];

/** The value of each code of `format`: 256, 64 or 16. */
export function minifloatValues(format: MinifloatFormat): Float32Array {
  return codecOf(format, 'minifloatValues').values.slice();
}

/**
 * Codes of float32 numbers, one per byte.
 * @throws LmqError `argument/option` for an unknown format, `argument/value` for NaN in a format without it
 */
export function encodeMinifloats(format: MinifloatFormat, src: Float32Array, { saturate = true }: SaturateOpts = {}): Uint8Array {
  const op = 'encodeMinifloats';
  const { fromFloat32Bits } = codecOf(format, op);
  const bits = new Int32Array(src.buffer, src.byteOffset, src.length);
  const out = new Uint8Array(src.length);
  for (let i = 0; i < out.length; i++) {
    const code = fromFloat32Bits(bits[i]!, saturate);
    if (code < 0) throw new LmqError('argument/value', `element ${i} is NaN`, { op, hint: `${format} has no NaN.` });
    out[i] = code;
  }
  return out;
}

/**
 * float32 values of codes. Bits above the format's are ignored.
 * @param out receives them; default a new array
 * @throws LmqError `argument/option` for an unknown format, `argument/shape` when `out` is too short
 */
export function decodeMinifloats(
  format: MinifloatFormat,
  codes: Uint8Array,
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  const op = 'decodeMinifloats';
  const { values } = codecOf(format, op);
  if (out.length < codes.length) {
    throw new LmqError('argument/shape', 'out is too short', { op, expected: `at least ${codes.length}`, found: out.length });
  }
  const mask = values.length - 1;
  for (let i = 0; i < codes.length; i++) out[i] = values[codes[i]! & mask]!;
  return out;
}

function codecOf(format: MinifloatFormat, op: string): Codec {
  return CODECS[checkOneOf(format, 'minifloat format', MINIFLOAT_FORMATS, op)];
}
