/**
 * NaN and infinity among the floats that a weight stores: values, scales, tables, and the scales and minima of GGUF blocks.
 * @module
 */
import { type CompressedTensor, contiguous, type FloatData, type FloatFormat, ndarray, type Scales } from '@lmq/tensor';
import { BLOCK_TYPES } from './block-types/table.js';
import { countBadBlocks, isBadBlock } from './layouts/blocks.js';

/** How many there are; blocks count once each. */
export function countNonFinite(t: CompressedTensor): number {
  switch (t.kind) {
    case 'dense':
      return countFloats(t.format, t.data);
    case 'affine':
      return countFloats(t.scales.format, t.scales.data);
    case 'lut':
      return countFloats('fp32', contiguous(t.tables)) + (t.scales ? countFloats(t.scales.format, t.scales.data) : 0);
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
  const scales = (s: Scales): Scales => ({ ...s, data: zeroFloats(s.format, s.data) });
  switch (t.kind) {
    case 'dense':
      return { ...t, data: zeroFloats(t.format, t.data) };
    case 'affine':
      return { ...t, scales: scales(t.scales) };
    case 'lut': {
      const tables = ndarray(zeroFloats('fp32', contiguous(t.tables)) as Float32Array, t.tables.shape);
      return { ...t, tables, ...(t.scales && { scales: scales(t.scales) }) };
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
