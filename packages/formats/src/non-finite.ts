/**
 * NaN and infinity among the floats that a weight stores: values, scales, tables, and the scales and minima of GGUF blocks.
 * @module
 */
import {
  type Affine,
  type CompressedTensor,
  contiguous,
  type FloatData,
  type FloatFormat,
  type MinifloatFormat,
  ndarray,
  type ScaleFormat,
  type Scales,
} from '@lmq/tensor';
import { BLOCK_TYPES } from './block-types/table.js';
import { decodeFloats } from './floats.js';
import { isFloatZeros } from './layouts/affine.js';
import { countBadBlocks, isBadBlock } from './layouts/blocks.js';
import { minifloatValues } from './minifloats.js';
import { scaleValues } from './scales.js';

/** How many there are; blocks count once each. */
export function countNonFinite(t: CompressedTensor): number {
  switch (t.kind) {
    case 'dense':
    case 'csr':
      return countFloats(t.format, t.data);
    case 'minifloat':
      return countCodes(t.format, t.codes) + (t.scales ? countScales(t.scales) : 0);
    case 'affine':
      return countScales(t.scales) + (isFloatZeros(t.zeroPoints) ? countFloats(t.zeroPoints.format, t.zeroPoints.data) : 0);
    case 'lut':
      return countFloats('fp32', contiguous(t.tables)) + (t.scales ? countScales(t.scales) : 0);
    case 'blocks':
      return countBadBlocks(t);
    case 'sum':
      return t.terms.reduce((n, term) => n + countNonFinite(term), 0);
    case 'parts':
      return t.parts.reduce((n, part) => n + countNonFinite(part.base), 0);
    case 'rescaled':
      return countFloats('fp32', t.inputScale) + countNonFinite(t.base);
  }
}

/**
 * The same tensor with zeros in their place: single values of dense tensors and tables, all that shares a scale, whole GGUF blocks. What
 * is replaced is copied; the argument is left as it is.
 */
export function zeroNonFinite(t: CompressedTensor): CompressedTensor {
  switch (t.kind) {
    case 'dense':
    case 'csr':
      return { ...t, data: zeroFloats(t.format, t.data) };
    case 'minifloat':
      return { ...t, codes: zeroCodes(t.format, t.codes), ...(t.scales && { scales: zeroScales(t.scales) }) };
    case 'affine':
      return zeroAffine(t);
    case 'lut': {
      const tables = ndarray(zeroFloats('fp32', contiguous(t.tables)) as Float32Array, t.tables.shape);
      return { ...t, tables, ...(t.scales && { scales: zeroScales(t.scales) }) };
    }
    case 'blocks': {
      const traits = BLOCK_TYPES[t.type];
      const data = t.data.slice();
      for (let o = 0; o < data.length; o += traits.blockBytes) if (isBadBlock(data, o, traits)) data.fill(0, o, o + traits.blockBytes);
      return { ...t, data };
    }
    case 'sum':
      return { ...t, terms: t.terms.map(zeroNonFinite) };
    case 'parts':
      return { ...t, parts: t.parts.map((part) => ({ ...part, base: zeroNonFinite(part.base) })) };
    case 'rescaled':
      return { ...t, inputScale: zeroFloats('fp32', t.inputScale) as Float32Array, base: zeroNonFinite(t.base) };
  }
}

/** A group whose zero point is not finite gets a scale of 0. */
function zeroAffine(t: Affine): Affine {
  const scales = zeroScales(t.scales);
  if (!isFloatZeros(t.zeroPoints) || countFloats(t.zeroPoints.format, t.zeroPoints.data) === 0) return { ...t, scales };
  const { format, data } = t.zeroPoints;
  const values = scaleValues(scales);
  decodeFloats(format, data).forEach((z, i) => {
    if (z - z !== 0) values[i] = 0;
  });
  const { block } = scales;
  return { ...t, scales: { block, format: 'fp32', data: values }, zeroPoints: { format, data: zeroFloats(format, data) } };
}

function countScales({ format, data, table, outer }: Scales): number {
  const inTable = table ? countFloats('fp32', table) : 0;
  const inOuter = outer ? countFloats(outer.scales.format, outer.scales.data) : 0;
  return countStored(format, data) + inTable + inOuter;
}

function zeroScales<S extends Scales>(s: S): S {
  const { format, data, table, outer } = s;
  if (format === 'e8m0') {
    // it has no zero: float32 holds zero and all of its numbers
    if (countStored(format, data) === 0) return s;
    return { ...s, format: 'fp32', data: zeroFloats('fp32', scaleValues(s)) };
  }
  return {
    ...s,
    data: format === 'table8' ? data : format === 'fp8e4m3' ? zeroCodes(format, data as Uint8Array) : zeroFloats(format, data as FloatData),
    ...(table && { table: zeroFloats('fp32', table) }),
    ...(outer && { outer: { ...outer, scales: { ...outer.scales, data: zeroFloats(outer.scales.format, outer.scales.data) } } }),
  };
}

function countStored(format: ScaleFormat, data: Scales['data']): number {
  if (format === 'table8') return 0;
  if (format === 'e8m0') return (data as Uint8Array).reduce((n, code) => n + (code === 255 ? 1 : 0), 0);
  return format === 'fp8e4m3' ? countCodes(format, data as Uint8Array) : countFloats(format, data as FloatData);
}

/** Which codes are NaN or infinite. Only formats of 8 bits have such codes, and those fill their bytes. */
function isBadCode(format: MinifloatFormat): boolean[] | null {
  return format.startsWith('fp8') ? Array.from(minifloatValues(format), (x) => !Number.isFinite(x)) : null;
}

function countCodes(format: MinifloatFormat, codes: Uint8Array): number {
  const bad = isBadCode(format);
  return bad ? codes.reduce((n, code) => n + (bad[code] ? 1 : 0), 0) : 0;
}

function zeroCodes(format: MinifloatFormat, codes: Uint8Array): Uint8Array {
  const bad = isBadCode(format);
  return bad ? codes.map((code) => (bad[code] ? 0 : code)) : codes;
}

/** Exponent bits of a 16-bit float: all ones in NaN and infinity. */
const exponentOf = (format: FloatFormat) => (format === 'fp16' ? 0x7c00 : 0x7f80);

function countFloats(format: FloatFormat, data: FloatData): number {
  let count = 0;
  if (data instanceof Float32Array) {
    for (let i = 0; i < data.length; i++) if (data[i]! - data[i]! !== 0) count++;
    return count;
  }
  const exponent = exponentOf(format);
  for (let i = 0; i < data.length; i++) if ((data[i]! & exponent) === exponent) count++;
  return count;
}

function zeroFloats(format: FloatFormat, data: FloatData): FloatData {
  const out = data.slice();
  const exponent = exponentOf(format);
  if (out instanceof Float32Array) for (let i = 0; i < out.length; i++) out[i] = out[i]! - out[i]! === 0 ? out[i]! : 0;
  else for (let i = 0; i < out.length; i++) if ((out[i]! & exponent) === exponent) out[i] = 0;
  return out;
}
