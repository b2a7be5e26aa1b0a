/**
 * Layout `minifloat`: floats of 8 bits and fewer, `w = number(code) * scale`. The product is made in double (exact) and rounded once, to
 * float32.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { LmqError, type Minifloat } from '@lmq/tensor';
import { FLOAT_TRAITS } from '../formats.js';
import { MINIFLOAT_FORMATS, minifloatValues } from '../minifloats.js';
import { rowBytes, unpackInto } from '../packing.js';
import { gatherRows, multiplyScales, scaleBytes, scalesName, selectScales, validateScales } from '../scales.js';
import { expectArray, expectLength } from './_layout.js';

export function decodeRows(t: Minifloat, from: number, to: number, out: Float32Array): void {
  const cols = t.shape[1];
  const { bits } = FLOAT_TRAITS[t.format];
  const values = minifloatValues(t.format);
  const step = rowBytes(cols, bits);
  const row = new Uint8Array(cols);
  for (let r = from; r < to; r++) {
    unpackInto(t.codes, r * step, 0, bits, cols, row, 0);
    const o = (r - from) * cols;
    for (let c = 0; c < cols; c++) out[o + c] = values[row[c]!]!;
  }
  if (t.scales) multiplyScales(t.scales, t.shape, from, to, out);
}

export function byteLength(t: Minifloat): number {
  return t.codes.byteLength + (t.scales ? scaleBytes(t.scales) : 0);
}

export function validate(t: Minifloat, at: string): void {
  if (!MINIFLOAT_FORMATS.includes(t.format)) {
    throw new LmqError('argument/value', `${at}.format is unknown`, {
      op: 'validate',
      expected: MINIFLOAT_FORMATS.join(', '),
      found: t.format,
    });
  }
  expectArray(t.codes, 'Uint8Array', `${at}.codes`);
  expectLength(t.codes.length, t.shape[0] * rowBytes(t.shape[1], FLOAT_TRAITS[t.format].bits), `${at}.codes`);
  if (t.scales) validateScales(t.scales, t.shape, `${at}.scales`);
}

export function layoutName(t: Minifloat): string {
  return t.scales ? `${t.format}, scales ${scalesName(t.scales)}` : t.format;
}

export function selectRows(t: Minifloat, index: ArrayLike<number>): Minifloat {
  const cols = t.shape[1];
  return {
    ...t,
    shape: [index.length, cols],
    codes: gatherRows(t.codes, rowBytes(cols, FLOAT_TRAITS[t.format].bits), index),
    ...(t.scales && { scales: selectScales(t.scales, t.shape, index) }),
  };
}
