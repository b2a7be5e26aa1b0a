/**
 * Block scales shared by the layouts that have them: how many there are, their values, their product with weights, their rows gathered.
 * @module
 */
import { type FloatData, type FloatFormat, type GridScales, LmqError, type OuterScales, type ScaleFormat, type Scales } from '@lmq/tensor';
import { E8M0 } from './e8m0.js';
import { checkFloatData, decodeFloats, FLOAT_BYTES } from './floats.js';
import { expectArray } from './layouts/_layout.js';
import { minifloatValues } from './minifloats.js';

type Shape = readonly [rows: number, cols: number];

/**
 * Rows and columns of the scales of a weight of `shape`: `[ceil(out / block[0]), ceil(in / block[1])]`; runs across rows make one row,
 * `[1, ceil(out * in / flat)]`.
 */
export function scaleGrid({ block }: Pick<Scales, 'block'>, shape: Shape): [rows: number, cols: number] {
  if (!Array.isArray(block)) return [1, Math.ceil((shape[0] * shape[1]) / block.flat)];
  return [Math.ceil(shape[0] / block[0]), Math.ceil(shape[1] / block[1])];
}

/** Values of the scales `from … to`, in their stored order, as multiplied with: float32. */
export function scaleValues(scales: Scales, from = 0, to: number = scales.data.length): Float32Array {
  const out = storedValues(scales, from, to);
  const { outer, global } = scales;
  if (outer) {
    const { flat } = outer.scales.block;
    const first = Math.floor(from / flat);
    const by = decodeFloats(outer.scales.format, outer.scales.data, undefined, first, Math.ceil(to / flat));
    for (let i = 0; i < out.length; i++) {
      out[i]! *= by[Math.floor((from + i) / flat) - first]!;
      out[i]! += outer.offset;
    }
  }
  if (global?.op === 'divide') for (let i = 0; i < out.length; i++) out[i]! /= global.value;
  else if (global) for (let i = 0; i < out.length; i++) out[i]! *= global.value;
  return out;
}

/** The stored numbers, before outer and global scales. */
function storedValues(scales: Scales, from: number, to: number): Float32Array {
  const { format, data } = scales;
  if (isFloat(format)) return decodeFloats(format, data as FloatData, undefined, from, to);
  const values = format === 'table8' ? scales.table! : format === 'e8m0' ? E8M0 : minifloatValues(format);
  const out = new Float32Array(to - from);
  for (let i = 0; i < out.length; i++) out[i] = values[data[from + i]!]!;
  return out;
}

const isFloat = (format: ScaleFormat): format is FloatFormat => Object.hasOwn(FLOAT_BYTES, format);

/** Values of the scale rows that weight rows [from, to) use, float32, row-major from scale row `floor(from / block[0])`. */
export function scaleRows(scales: GridScales, shape: Shape, from: number, to: number): Float32Array {
  const cols = scaleGrid(scales, shape)[1];
  const first = Math.floor(from / scales.block[0]);
  const last = Math.ceil(to / scales.block[0]);
  return scaleValues(scales, first * cols, last * cols);
}

/** Multiplies rows [from, to) of a weight of `shape`, row-major from the start of `out`, with their scales; each product rounded to float32. */
export function multiplyScales(scales: Scales, shape: Shape, from: number, to: number, out: Float32Array): void {
  const cols = shape[1];
  const { block } = scales;
  if (!Array.isArray(block)) {
    const [start, end] = [from * cols, to * cols];
    const first = Math.floor(start / block.flat);
    const values = scaleValues(scales, first, Math.ceil(end / block.flat));
    for (let i = start, g = 0; i < end; g++) {
      const stop = Math.min((first + g + 1) * block.flat, end);
      for (; i < stop; i++) out[i - start]! *= values[g]!;
    }
    return;
  }
  const grid = scales as GridScales;
  const groups = scaleGrid(grid, shape)[1];
  const values = scaleRows(grid, shape, from, to);
  const firstScaleRow = Math.floor(from / block[0]);
  for (let r = from; r < to; r++) {
    const o = (r - from) * cols;
    for (let c = 0, g = (Math.floor(r / block[0]) - firstScaleRow) * groups; c < cols; g++) {
      const end = Math.min(c + block[1], cols);
      for (; c < end; c++) out[o + c]! *= values[g]!;
    }
  }
}

/** Bytes of scales, their table, their outer scales and the numbers for the whole tensor. */
export function scaleBytes({ data, table, outer, global }: Scales): number {
  return data.byteLength + (table?.byteLength ?? 0) + (outer ? outer.scales.data.byteLength + 4 : 0) + (global ? 4 : 0);
}

/** Blocks, and the format where it is not one of plain floats: `1x32`, `1x16 fp8e4m3 global`, `flat 64 table8`. */
export function scalesName({ block, format, global }: Scales): string {
  const blocks = !Array.isArray(block) ? `flat ${block.flat}` : block.join('x');
  return `${blocks}${isFloat(format) ? '' : ` ${format}`}${global ? ' global' : ''}`;
}

/**
 * @throws LmqError `argument/shape` for a block or a count that does not fit, `argument/option` for an unknown format, `argument/value` for
 * the wrong kind of array, a field that the format has not, or a scale that is NaN or infinite
 */
export function validateScales(scales: Scales, shape: Shape, at: string): void {
  const op = 'validate';
  validateBlock(scales.block, shape, at);
  const { format, data } = scales;
  if (format === 'table8' || format === 'e8m0' || format === 'fp8e4m3') expectArray(data, 'Uint8Array', `${at}.data`);
  else checkFloatData(format, data as FloatData, op);
  const [rows, cols] = scaleGrid(scales, shape);
  expectCount(data.length, rows * cols, `${at}.data`, `${rows} x ${cols} scales`);
  expectField(scales, 'table', format === 'table8', at);
  if (scales.table) {
    expectArray(scales.table, 'Float32Array', `${at}.table`);
    expectCount(scales.table.length, 256, `${at}.table`, '256 numbers');
    expectFinite(scales.table, `${at}.table`);
  }
  if (scales.outer) {
    expectField(scales, 'outer', format === 'table8', at);
    validateOuter(scales.outer.scales, rows * cols, `${at}.outer.scales`);
    expectFloat32(scales.outer.offset, `${at}.outer.offset`);
  }
  if (scales.global) {
    expectField(scales, 'global', format === 'fp8e4m3', at);
    const { op: how, value } = scales.global;
    if (how !== 'divide' && how !== 'multiply') {
      throw new LmqError('argument/value', `${at}.global.op is unknown`, { op, expected: 'divide, multiply', found: how });
    }
    expectFloat32(value, `${at}.global.value`);
    if (value <= 0) throw new LmqError('argument/value', `${at}.global.value is not above 0`, { op, found: value });
  }
  expectFinite(scaleValues(scales), `${at}.data`);
}

function validateBlock(block: Scales['block'], shape: Shape, at: string): void {
  const within = (n: number, max: number, what: string) => {
    if (Number.isInteger(n) && n >= 1 && n <= max) return;
    throw new LmqError('argument/shape', `${at}.${what} is out of range`, {
      op: 'validate',
      expected: `an integer in 1 … ${max}`,
      found: n,
    });
  };
  if (Array.isArray(block) && block.length === 2) {
    within(block[0], shape[0], 'block[0]');
    within(block[1], shape[1], 'block[1]');
  } else if (typeof block === 'object' && block !== null && !Array.isArray(block)) within(block.flat, shape[0] * shape[1], 'block.flat');
  else
    throw new LmqError('argument/shape', `${at}.block is not a block`, {
      op: 'validate',
      expected: '[rows, cols] or { flat }',
      found: block,
    });
}

function validateOuter(outer: OuterScales, count: number, at: string): void {
  const { flat } = outer.block;
  if (!(Number.isInteger(flat) && flat >= 1 && flat <= count)) {
    throw new LmqError('argument/shape', `${at}.block.flat is out of range`, {
      op: 'validate',
      expected: `an integer in 1 … ${count}`,
      found: flat,
    });
  }
  checkFloatData(outer.format, outer.data, 'validate');
  expectCount(outer.data.length, Math.ceil(count / flat), `${at}.data`, `${Math.ceil(count / flat)} scales`);
  expectFinite(decodeFloats(outer.format, outer.data), `${at}.data`);
}

function expectCount(found: number, count: number, what: string, expected: string): void {
  if (found !== count) throw new LmqError('argument/shape', `${what} has the wrong length`, { op: 'validate', expected, found });
}

function expectField(scales: Scales, field: 'table' | 'outer' | 'global', wanted: boolean, at: string): void {
  if ((scales[field] !== undefined) === wanted) return;
  const what = wanted ? `${at}.${field} is missing` : `${at}.${field} does not belong to scales of format ${scales.format}`;
  throw new LmqError('argument/value', what, { op: 'validate' });
}

function expectFinite(values: Float32Array, what: string): void {
  const bad = firstNotFinite('fp32', values);
  if (bad >= 0) throw new LmqError('argument/value', `${what}[${bad}] is not finite`, { op: 'validate', found: values[bad] });
}

function expectFloat32(x: number, what: string): void {
  if (typeof x === 'number' && Number.isFinite(x) && Math.fround(x) === x) return;
  throw new LmqError('argument/value', `${what} is not a finite float32`, { op: 'validate', found: x });
}

/** Index of the first NaN or infinity, or -1. */
export function firstNotFinite(format: FloatFormat, data: FloatData): number {
  if (format === 'fp32') {
    for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return i;
    return -1;
  }
  const mask = format === 'fp16' ? 0x7c00 : 0x7f80; // the exponent field, all ones in NaN and infinity
  for (let i = 0; i < data.length; i++) if ((data[i] & mask) === mask) return i;
  return -1;
}

/** Gathered scales: which new block height, and which of the old scale rows, in order. */
export interface ScaleRowPlan {
  blockRows: number;
  rows: ArrayLike<number>;
}

/**
 * How to gather scales together with weight rows `index`. Blocks of several rows are kept where the gathered rows still fall into whole
 * blocks; otherwise every row gets scales of its own, with the same values.
 */
export function planScaleRows(blockRows: number, outRows: number, index: ArrayLike<number>): ScaleRowPlan {
  const n = index.length;
  if (blockRows === 1) return { blockRows, rows: index };
  if (blockRows >= outRows) return { blockRows: n, rows: [0] };
  const rows: number[] = [];
  for (let i = 0; i < n; i++) {
    const block = Math.floor(index[i] / blockRows);
    if (i % blockRows === 0) rows.push(block);
    else if (rows[rows.length - 1] !== block) return { blockRows: 1, rows: Array.from(index, (r) => Math.floor(r / blockRows)) };
  }
  return { blockRows: Math.min(blockRows, n), rows };
}

/** Scales of gathered weight rows. `cols` is the width of the scale grid. */
export function selectScaleRows(scales: GridScales, cols: number, plan: ScaleRowPlan): GridScales {
  return { block: [plan.blockRows, scales.block[1]], ...gatherScales(scales, cols, plan.rows) };
}

/** Scales of weight rows `index` of a weight of `shape`. */
export function selectScales(scales: Scales, shape: Shape, index: ArrayLike<number>): Scales {
  const { block } = scales;
  if (Array.isArray(block)) {
    const plan = planScaleRows(block[0], shape[0], index);
    return selectScaleRows(scales as GridScales, scaleGrid(scales, shape)[1], plan);
  }
  const cols = shape[1];
  const { flat } = block;
  const n = index.length * cols;
  const start = index[0]! * cols;
  if (start % flat === 0 && isRun(index)) {
    const blocks = Array.from({ length: Math.ceil(n / flat) }, (_, i) => start / flat + i);
    return { block: { flat: Math.min(flat, n) }, ...gatherScales(scales, 1, blocks) };
  }
  // finer blocks, which fit into rows: the largest that old blocks and rows are both made of
  const step = gcd(flat, cols);
  const blocks = new Float64Array(n / step);
  for (let i = 0; i < blocks.length; i++) {
    const at = i * step;
    blocks[i] = Math.floor((index[Math.floor(at / cols)]! * cols + (at % cols)) / flat);
  }
  return { block: { flat: step }, ...gatherScales(scales, 1, blocks) };
}

/** Rows of `width` stored scales. Where outer scales no longer fit, the values in use are stored instead: float32 holds them exactly. */
function gatherScales(scales: Scales, width: number, index: ArrayLike<number>): Omit<Scales, 'block'> {
  const { format, data, table, outer, global } = scales;
  if (!outer) {
    return { format, data: gatherRows(data, width, index), ...(table && { table }), ...(global && { global }) };
  }
  const { block, data: outerData } = outer.scales;
  const first = (index[0]! * width) / block.flat;
  if (!Number.isInteger(first) || !isRun(index)) return { format: 'fp32', data: gatherRows(scaleValues(scales), width, index) };
  const count = index.length * width;
  const kept = outerData.slice(first, first + Math.ceil(count / block.flat));
  return {
    format,
    data: gatherRows(data, width, index),
    table: table!,
    outer: { scales: { ...outer.scales, block: { flat: Math.min(block.flat, count) }, data: kept }, offset: outer.offset },
  };
}

function isRun(index: ArrayLike<number>): boolean {
  for (let i = 1; i < index.length; i++) if (index[i] !== index[0]! + i) return false;
  return true;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** Rows of `width` elements gathered from a row-major array into a new one. */
export function gatherRows<D extends FloatData | Uint8Array>(data: D, width: number, index: ArrayLike<number>): D {
  const out = new (data.constructor as new (n: number) => D)(index.length * width);
  if (width === 1) for (let i = 0; i < index.length; i++) out[i] = data[index[i]!]!;
  else for (let i = 0; i < index.length; i++) out.set(data.subarray(index[i]! * width, (index[i]! + 1) * width), i * width);
  return out;
}
