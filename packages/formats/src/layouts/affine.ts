/**
 * Layout `affine`: uniform integers, `w = (code - zero) * scale`. The difference is an integer of at most 9 bits, so the product is exact
 * in double and rounded once, to float32. With zero points that are floats, difference and product are both rounded to float32.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { type Affine, type FloatZeroPoints, LmqError } from '@lmq/tensor';
import { checkFloatData, decodeFloats } from '../floats.js';
import { packStream, rowBytes, unpackInto, unpackStream } from '../packing.js';
import { firstNotFinite, gatherRows, planScaleRows, scaleBytes, scaleGrid, scaleRows, selectScaleRows, validateScales } from '../scales.js';
import { expectArray, expectBits, expectLength } from './_layout.js';

export function decodeRows(t: Affine, from: number, to: number, out: Float32Array): void {
  const cols = t.shape[1];
  const { bits, codes, groupSize, groupIndex } = t;
  const blockRows = t.scales.block[0];
  const groups = scaleGrid(t.scales, t.shape)[1];
  const scales = scaleRows(t.scales, t.shape, from, to);
  const firstScaleRow = Math.floor(from / blockRows);
  const zeros = zeroValues(t, firstScaleRow * groups, scales.length);
  const step = rowBytes(cols, bits);
  // 4-bit codes in ordered groups of whole bytes, with integers as zero points, are decoded straight from the bytes; the rest goes through
  // one unpacked row
  const nibbles = bits === 4 && !groupIndex && groupSize % 2 === 0 && zeros instanceof Uint8Array;
  const row = new Uint8Array(nibbles ? 0 : cols);
  for (let r = from; r < to; r++) {
    const g0 = (Math.floor(r / blockRows) - firstScaleRow) * groups;
    const o = (r - from) * cols;
    if (nibbles) {
      nibbleRow(codes, r * step, cols, groupSize, scales, zeros, g0, out, o);
      continue;
    }
    unpackInto(codes, r * step, 0, bits, cols, row, 0);
    if (groupIndex) {
      for (let c = 0; c < cols; c++) {
        const g = g0 + groupIndex[c];
        out[o + c] = Math.fround(row[c] - zeros[g]) * scales[g];
      }
    } else {
      for (let c = 0, g = g0; c < cols; g++) {
        const zero = zeros[g];
        const scale = scales[g];
        const end = Math.min(c + groupSize, cols);
        for (; c < end; c++) out[o + c] = Math.fround(row[c] - zero) * scale;
      }
    }
  }
}

/** One row of 4-bit codes in groups of an even number of columns. */
function nibbleRow(
  codes: Uint8Array,
  from: number,
  cols: number,
  groupSize: number,
  scales: Float32Array,
  zeros: Uint8Array,
  g0: number,
  out: Float32Array,
  o: number,
): void {
  let at = from;
  for (let c = 0, g = g0; c < cols; g++) {
    const zero = zeros[g];
    const scale = scales[g];
    const end = Math.min(c + groupSize, cols);
    for (; c + 2 <= end; c += 2) {
      const b = codes[at++];
      out[o + c] = ((b & 15) - zero) * scale;
      out[o + c + 1] = ((b >>> 4) - zero) * scale;
    }
    if (c < end) {
      out[o + c] = ((codes[at] & 15) - zero) * scale; // an odd width: the last byte holds one code
      c = end;
    }
  }
}

/** True for zero points in floating point. */
export function isFloatZeros(zeroPoints: Affine['zeroPoints']): zeroPoints is FloatZeroPoints {
  return !!zeroPoints && !ArrayBuffer.isView(zeroPoints);
}

/** Zero points `from … from + count`: integers one per byte, or float32. Without stored ones, all are `2 ** (bits - 1)`. */
export function zeroValues(t: Affine, from: number, count: number): Uint8Array | Float32Array {
  if (isFloatZeros(t.zeroPoints)) return decodeFloats(t.zeroPoints.format, t.zeroPoints.data, undefined, from, from + count);
  return t.zeroPoints ? unpackStream(t.zeroPoints, t.bits, count, undefined, from) : new Uint8Array(count).fill(2 ** (t.bits - 1));
}

/**
 * As {@link zeroValues}, for formats that hold integers.
 * @throws LmqError `argument/value` for a zero point that is no unsigned integer of `bits` bits
 */
export function zeroPointValues(t: Affine, from: number, count: number): Uint8Array {
  const zeros = zeroValues(t, from, count);
  if (zeros instanceof Uint8Array) return zeros;
  const bad = zeros.findIndex((z) => !isCode(z, t.bits));
  if (bad >= 0) {
    throw new LmqError('argument/value', `zero point ${from + bad} is not an integer of ${t.bits} bits`, {
      op: 'zeroPointValues',
      expected: `0 … ${2 ** t.bits - 1}`,
      found: zeros[bad],
      hint: 'Only layouts with zero points in floating point hold it.',
    });
  }
  return Uint8Array.from(zeros);
}

const isCode = (z: number, bits: number) => Number.isInteger(z) && z >= 0 && z < 2 ** bits;

/** The first zero point that is none of the codes, which formats of integers cannot hold; `undefined` when all are. */
export function zeroBetweenCodes(t: Affine): number | undefined {
  if (!isFloatZeros(t.zeroPoints)) return undefined;
  const { format, data } = t.zeroPoints;
  return decodeFloats(format, data).find((z) => !isCode(z, t.bits));
}

export function byteLength(t: Affine): number {
  const zeros = isFloatZeros(t.zeroPoints) ? t.zeroPoints.data : t.zeroPoints;
  return t.codes.byteLength + scaleBytes(t.scales) + (zeros?.byteLength ?? 0) + (t.groupIndex?.byteLength ?? 0);
}

export function validate(t: Affine, at: string): void {
  const [rows, cols] = t.shape;
  const op = 'validate';
  expectBits(t.bits, `${at}.bits`);
  expectArray(t.codes, 'Uint8Array', `${at}.codes`);
  expectLength(t.codes.length, rows * rowBytes(cols, t.bits), `${at}.codes`);
  validateScales(t.scales, t.shape, `${at}.scales`);
  if (t.groupSize !== t.scales.block[1]) {
    throw new LmqError('argument/shape', `${at}.groupSize differs from scales.block[1]`, {
      op,
      expected: t.scales.block[1],
      found: t.groupSize,
      hint: 'One scale per row is groupSize = in.',
    });
  }
  const [scaleRowCount, groups] = scaleGrid(t.scales, t.shape);
  if (isFloatZeros(t.zeroPoints)) {
    const { format, data } = t.zeroPoints;
    checkFloatData(format, data, op);
    expectLength(data.length, scaleRowCount * groups, `${at}.zeroPoints.data`);
    const bad = firstNotFinite(format, data);
    if (bad >= 0) throw new LmqError('argument/value', `${at}.zeroPoints.data[${bad}] is not finite`, { op });
  } else if (t.zeroPoints) {
    expectArray(t.zeroPoints, 'Uint8Array', `${at}.zeroPoints`);
    expectLength(t.zeroPoints.length, rowBytes(scaleRowCount * groups, t.bits), `${at}.zeroPoints`);
  }
  if (t.groupIndex) {
    expectArray(t.groupIndex, 'Int32Array', `${at}.groupIndex`);
    expectLength(t.groupIndex.length, cols, `${at}.groupIndex`);
    for (let c = 0; c < cols; c++) {
      const g = t.groupIndex[c];
      if (g < 0 || g >= groups) {
        throw new LmqError('argument/value', `${at}.groupIndex[${c}] names no group`, { op, expected: `0 … ${groups - 1}`, found: g });
      }
    }
  }
}

export function layoutName(t: Affine): string {
  const [blockRows, blockCols] = t.scales.block;
  const [rows, cols] = t.shape;
  const whole = blockCols >= cols;
  const per =
    whole && blockRows >= rows && rows > 1
      ? 'per tensor'
      : blockRows > 1
        ? `b${blockRows}x${blockCols}`
        : whole
          ? 'per row'
          : `g${blockCols}`;
  const zeros = isFloatZeros(t.zeroPoints) ? `asym ${t.zeroPoints.format}` : t.zeroPoints ? 'asym' : 'sym';
  return `affine ${t.bits}-bit ${per} ${zeros}${t.groupIndex ? ' act-order' : ''}`;
}

export function selectRows(t: Affine, index: ArrayLike<number>): Affine {
  const [rows, cols] = t.shape;
  const [scaleRowCount, groups] = scaleGrid(t.scales, t.shape);
  const plan = planScaleRows(t.scales.block[0], rows, index);
  const out: Affine = {
    ...t,
    shape: [index.length, cols],
    codes: gatherRows(t.codes, rowBytes(cols, t.bits), index),
    scales: selectScaleRows(t.scales, groups, plan),
  };
  if (isFloatZeros(t.zeroPoints)) out.zeroPoints = { ...t.zeroPoints, data: gatherRows(t.zeroPoints.data, groups, plan.rows) };
  else if (t.zeroPoints) {
    out.zeroPoints = packStream(gatherRows(zeroPointValues(t, 0, scaleRowCount * groups), groups, plan.rows), t.bits);
  }
  return out;
}
