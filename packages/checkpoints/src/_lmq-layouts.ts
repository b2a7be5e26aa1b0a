/**
 * The layouts of lmq's own format: which facts go into `lmq.json` and which physical tensors hold the data. One physical tensor per field,
 * named by path: `w.codes`, `w.scales`, `w.base.codes`, `w.terms.1.data` … A dense tensor that is not nested keeps its own name.
 *
 * {@link writeLayout} and {@link planLayout} mirror each other, kind by kind.
 * @module
 */
import { BLOCK_TYPE_NAMES, BLOCK_TYPES, FLOAT_TRAITS, isFloatZeros, MINIFLOAT_FORMATS, rowBytes, scaleGrid } from '@lmq/formats';
import {
  type Affine,
  type BlockType,
  type CompressedTensor,
  type Csr,
  contiguous,
  type Dense,
  type FloatFormat,
  type GridScales,
  type Lut,
  type Minifloat,
  ndarray,
  type Parts,
  type ScaleBlock,
  type ScaleFormat,
  type Scales,
} from '@lmq/tensor';
import { FLOAT_DTYPES, MINIFLOAT_DTYPES, SCALE_DTYPES } from './_dtypes.js';
import { bytesOf, floatData, typedView } from './_floats.js';
import { type Fields, fieldsOf } from './_object.js';
import type { LmqLayout, TensorToWrite } from './api.js';

/** Deepest nesting of layouts, as in `validate`. */
export const MAX_LAYOUT_DEPTH = 8;

/** The facts of a tensor, and its data as physical tensors appended to `out`. `path` is the tensor's name plus the way to this layout. */
export function writeLayout(t: CompressedTensor, path: string, out: TensorToWrite[], nested = false): LmqLayout {
  const { kind, shape } = t;
  const [rows, cols] = shape;
  const put = (field: string, shape: number[], dtype: string, data: ArrayBufferView) => {
    out.push({ name: field ? `${path}.${field}` : path, shape, dtype, bytes: () => bytesOf(data) });
  };
  const putScales = (s: Scales): Fields => {
    const { block, format, table, outer, global } = s;
    put('scales', scaleShape(block, rows, cols), SCALE_DTYPES[format], s.data);
    const fields: Fields = { block, format };
    if (table) put('scales.table', [table.length], 'F32', table);
    if (outer) {
      const { scales, offset } = outer;
      put('scales.outer', [scales.data.length], FLOAT_DTYPES[scales.format], scales.data);
      fields.outer = { block: scales.block, format: scales.format, offset };
    }
    if (global) fields.global = global;
    return fields;
  };
  switch (t.kind) {
    case 'dense':
      put(nested ? 'data' : '', [rows, cols], FLOAT_DTYPES[t.format], t.data);
      return { kind, shape, format: t.format };
    case 'minifloat': {
      const { bits } = FLOAT_TRAITS[t.format];
      put('codes', [rows, rowBytes(cols, bits)], MINIFLOAT_DTYPES[t.format], t.codes);
      const layout: LmqLayout = { kind, shape, format: t.format };
      if (t.scales) layout.scales = putScales(t.scales);
      return layout;
    }
    case 'affine': {
      put('codes', [rows, rowBytes(cols, t.bits)], 'U8', t.codes);
      const layout: LmqLayout = { kind, shape, bits: t.bits, groupSize: t.groupSize, scales: putScales(t.scales) };
      if (isFloatZeros(t.zeroPoints)) {
        const { format, data } = t.zeroPoints;
        put('zero_points', [data.length], FLOAT_DTYPES[format], data);
        layout.zeroPoints = { format };
      } else if (t.zeroPoints) {
        put('zero_points', [t.zeroPoints.length], 'U8', t.zeroPoints);
        layout.zeroPoints = true;
      }
      if (t.groupIndex) {
        put('group_index', [cols], 'I32', t.groupIndex);
        layout.groupIndex = true;
      }
      return layout;
    }
    case 'lut': {
      put('codes', [rows, rowBytes(cols, t.bits)], 'U8', t.codes);
      put('tables', [...t.tables.shape], 'F32', contiguous(t.tables));
      const layout: LmqLayout = { kind, shape, bits: t.bits, tablePer: t.tablePer };
      if (t.scales) layout.scales = putScales(t.scales);
      return layout;
    }
    case 'blocks':
      put('blocks', [rows, t.data.length / rows], 'U8', t.data);
      return { kind, shape, type: t.type };
    case 'csr':
      put('row_start', [rows + 1], 'U32', t.rowStart);
      put('columns', [t.columns.length], 'U32', t.columns);
      put('data', [t.columns.length], FLOAT_DTYPES[t.format], t.data);
      return { kind, shape, format: t.format, nonZeros: t.columns.length };
    case 'sum':
      return { kind, shape, terms: t.terms.map((term, i) => writeLayout(term, `${path}.terms.${i}`, out, true)) };
    case 'parts':
      return {
        kind,
        shape,
        axis: t.axis,
        parts: t.parts.map(({ index, base }, i) => {
          out.push({ name: `${path}.parts.${i}.index`, shape: [index.length], dtype: 'U32', bytes: () => bytesOf(index) });
          return writeLayout(base, `${path}.parts.${i}.base`, out, true);
        }),
      };
    case 'rescaled':
      put('input_scale', [cols], 'F32', t.inputScale);
      return { kind, shape, base: writeLayout(t.base, `${path}.base`, out, true) };
  }
}

function scaleShape(block: ScaleBlock, rows: number, cols: number): number[] {
  const grid = scaleGrid({ block }, [rows, cols]);
  return Array.isArray(block) ? grid : grid.slice(1);
}

/** A physical tensor that a layout needs. */
export interface Claim {
  name: string;
  dtype: string;
  shape: number[];
}

/** How to put a tensor together again from the bytes of its claims, in their order. */
export interface LayoutPlan {
  claims: Claim[];
  build(bytes: readonly Uint8Array[]): CompressedTensor;
}

/** What reading a layout's JSON needs: checked access to fields, and a report that names the tensor. */
export interface LayoutReader {
  fail(what: string, expected: string, found: unknown): never;
}

/** Reads a layout's facts. Nothing is allocated by their numbers: data comes later, from files that were checked. */
export function planLayout(json: unknown, path: string, original: readonly number[], r: LayoutReader, depth = 0): LayoutPlan {
  if (depth >= MAX_LAYOUT_DEPTH) r.fail('layouts are nested too deep', `at most ${MAX_LAYOUT_DEPTH} levels`, 'more');
  if (typeof json !== 'object' || json === null || Array.isArray(json)) r.fail('a layout is not an object', 'an object', json);
  const of = json as Fields;
  const count = (value: unknown, what: string, max = 2 ** 32): number =>
    typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max
      ? value
      : r.fail(`${what} is out of range`, `1 … ${max}`, value);
  const oneOf = <T extends string>(value: unknown, what: string, allowed: readonly T[]): T =>
    allowed.includes(value as T) ? (value as T) : r.fail(`unknown ${what}`, allowed.join(', '), value);
  const list = (value: unknown, what: string): unknown[] =>
    Array.isArray(value) && value.length > 0 ? value : r.fail(`${what} is not a list`, 'a list of at least one', value);
  const flag = (key: string): boolean =>
    of[key] === undefined || of[key] === true ? of[key] === true : r.fail(`${key} is not true`, 'true', of[key]);
  const only = (...keys: string[]) => {
    for (const key of Object.keys(of))
      if (key !== 'kind' && key !== 'shape' && !keys.includes(key)) r.fail('a layout has an unknown field', keys.join(', '), key);
  };
  const floats = (value: unknown): FloatFormat => oneOf(value, 'format', Object.keys(FLOAT_DTYPES) as FloatFormat[]);
  const pair = (value: unknown, what: string): [number, number] => {
    const items = list(value, what);
    if (items.length !== 2) r.fail(`${what} is not a pair`, 'two numbers', items.length);
    return [count(items[0], what), count(items[1], what)];
  };
  const shape = pair(of.shape, 'shape');
  const [rows, cols] = shape;
  if (!Number.isSafeInteger(rows * cols)) r.fail('the shape is too large', 'at most 2^53 elements', shape);

  const claims: Claim[] = [];
  /** Claims a physical tensor and returns its place in the bytes given to `build`. */
  const claim = (field: string, shape: number[], dtype: string): number => claims.push({ name: `${path}.${field}`, shape, dtype }) - 1;
  /** Plans a nested layout; its bytes come after those claimed so far. */
  const inner = (value: unknown, at: string): ((bytes: readonly Uint8Array[]) => CompressedTensor) => {
    const plan = planLayout(value, `${path}.${at}`, [], r, depth + 1);
    const from = claims.push(...plan.claims) - plan.claims.length;
    return (bytes) => plan.build(bytes.slice(from, from + plan.claims.length));
  };
  /** The fields of an object that has those of `known` and no others. */
  const object = (value: unknown, what: string, ...known: string[]): Fields => {
    const fields = fieldsOf(value) ?? r.fail(`${what} is not an object`, known.join(', '), value);
    for (const key of Object.keys(fields)) if (!known.includes(key)) r.fail(`${what} has an unknown field`, known.join(', '), key);
    return fields;
  };
  const flatBlock = (value: unknown): { flat: number } => ({
    flat: count(object(value, 'block', 'flat').flat, 'flat', Number.MAX_SAFE_INTEGER),
  });
  const number = (value: unknown, what: string): number =>
    typeof value === 'number' && Number.isFinite(value) ? value : r.fail(`${what} is not a number`, 'a number', value);
  const planScales = (grid = false): { count: number; build: (bytes: readonly Uint8Array[]) => Scales } => {
    const s = object(of.scales, 'scales', 'block', 'format', 'outer', 'global');
    const block = grid || Array.isArray(s.block) ? pair(s.block, 'block') : flatBlock(s.block);
    const format = oneOf(s.format, 'format', Object.keys(SCALE_DTYPES) as ScaleFormat[]);
    const shape = scaleShape(block, rows, cols);
    const length = shape.reduce((a, b) => a * b, 1);
    const data = claim('scales', shape, SCALE_DTYPES[format]);
    const table = format === 'table8' ? claim('scales.table', [256], 'F32') : -1;
    const outer = s.outer === undefined ? undefined : planOuter(s.outer, length);
    const global = s.global === undefined ? undefined : planGlobal(s.global);
    return {
      count: length,
      build: (bytes) => ({
        block,
        format,
        data: Object.hasOwn(FLOAT_DTYPES, format) ? floatData(bytes[data]!, format as FloatFormat) : bytes[data]!,
        ...(table >= 0 && { table: typedView(bytes[table]!, Float32Array) }),
        ...(outer && { outer: outer(bytes) }),
        ...(global && { global }),
      }),
    };
  };
  const planOuter = (value: unknown, inner: number): ((bytes: readonly Uint8Array[]) => NonNullable<Scales['outer']>) => {
    const o = object(value, 'outer', 'block', 'format', 'offset');
    const block = flatBlock(o.block);
    const format = floats(o.format);
    const offset = number(o.offset, 'offset');
    const data = claim('scales.outer', [Math.ceil(inner / block.flat)], FLOAT_DTYPES[format]);
    return (bytes) => ({ scales: { block, format, data: floatData(bytes[data]!, format) }, offset });
  };
  const planGlobal = (value: unknown): NonNullable<Scales['global']> => {
    const g = object(value, 'global', 'op', 'value');
    return { op: oneOf(g.op, 'op', ['divide', 'multiply']), value: number(g.value, 'value') };
  };
  const planZeroPoints = (length: number, bits: number): ((bytes: readonly Uint8Array[]) => Affine['zeroPoints']) | undefined => {
    if (typeof of.zeroPoints !== 'object') {
      const data = flag('zeroPoints') ? claim('zero_points', [rowBytes(length, bits)], 'U8') : -1;
      return data < 0 ? undefined : (bytes) => bytes[data]!;
    }
    const format = floats(object(of.zeroPoints, 'zeroPoints', 'format').format);
    const data = claim('zero_points', [length], FLOAT_DTYPES[format]);
    return (bytes) => ({ format, data: floatData(bytes[data]!, format) });
  };

  switch (of.kind) {
    case 'dense': {
      only('format');
      const format = floats(of.format);
      if (depth === 0) claims.push({ name: path, shape: [...original], dtype: FLOAT_DTYPES[format] });
      else claim('data', shape, FLOAT_DTYPES[format]);
      return { claims, build: ([data]): Dense => ({ kind: 'dense', shape, format, data: floatData(data!, format) }) };
    }
    case 'minifloat': {
      only('format', 'scales');
      const format = oneOf(of.format, 'format', MINIFLOAT_FORMATS);
      const codes = claim('codes', [rows, rowBytes(cols, FLOAT_TRAITS[format].bits)], MINIFLOAT_DTYPES[format]);
      const scales = of.scales === undefined ? undefined : planScales();
      return {
        claims,
        build: (bytes): Minifloat => ({
          kind: 'minifloat',
          shape,
          format,
          codes: bytes[codes]!,
          ...(scales && { scales: scales.build(bytes) }),
        }),
      };
    }
    case 'affine': {
      only('bits', 'groupSize', 'scales', 'zeroPoints', 'groupIndex');
      const bits = count(of.bits, 'bits', 8);
      const groupSize = count(of.groupSize, 'groupSize');
      const codes = claim('codes', [rows, rowBytes(cols, bits)], 'U8');
      const scales = planScales(true);
      const zeros = planZeroPoints(scales.count, bits);
      const index = flag('groupIndex') ? claim('group_index', [cols], 'I32') : -1;
      return {
        claims,
        build: (bytes) => ({
          kind: 'affine',
          shape,
          bits,
          groupSize,
          codes: bytes[codes]!,
          scales: scales.build(bytes) as GridScales,
          ...(zeros && { zeroPoints: zeros(bytes) }),
          ...(index >= 0 ? { groupIndex: typedView(bytes[index]!, Int32Array) } : {}),
        }),
      };
    }
    case 'lut': {
      only('bits', 'tablePer', 'scales');
      const bits = count(of.bits, 'bits', 8);
      const tablePer = oneOf<Lut['tablePer']>(of.tablePer, 'tablePer', ['tensor', 'row', 'column']);
      const codes = claim('codes', [rows, rowBytes(cols, bits)], 'U8');
      const tableShape: [number, number] = [tablePer === 'tensor' ? 1 : tablePer === 'row' ? rows : cols, 2 ** bits];
      const tables = claim('tables', tableShape, 'F32');
      const scales = of.scales === undefined ? undefined : planScales();
      return {
        claims,
        build: (bytes) => ({
          kind: 'lut',
          shape,
          bits,
          codes: bytes[codes]!,
          tables: ndarray(typedView(bytes[tables]!, Float32Array), tableShape),
          tablePer,
          ...(scales ? { scales: scales.build(bytes) } : {}),
        }),
      };
    }
    case 'blocks': {
      only('type');
      const type = oneOf<BlockType>(of.type, 'block type', BLOCK_TYPE_NAMES);
      const { blockSize, blockBytes } = BLOCK_TYPES[type];
      if (cols % blockSize !== 0) r.fail('rows are not whole blocks', `a multiple of ${blockSize}`, cols);
      claim('blocks', [rows, (cols / blockSize) * blockBytes], 'U8');
      return { claims, build: ([data]) => ({ kind: 'blocks', shape, type, data: data! }) };
    }
    case 'csr': {
      only('format', 'nonZeros');
      const format = floats(of.format);
      const n = of.nonZeros === 0 ? 0 : count(of.nonZeros, 'nonZeros', Math.min(rows * cols, 2 ** 32 - 1));
      const [start, columns, data] = [
        claim('row_start', [rows + 1], 'U32'),
        claim('columns', [n], 'U32'),
        claim('data', [n], FLOAT_DTYPES[format]),
      ];
      return {
        claims,
        build: (bytes): Csr => ({
          kind: 'csr',
          shape,
          format,
          rowStart: typedView(bytes[start]!, Uint32Array),
          columns: typedView(bytes[columns]!, Uint32Array),
          data: floatData(bytes[data]!, format),
        }),
      };
    }
    case 'sum': {
      only('terms');
      const terms = list(of.terms, 'terms').map((term, i) => inner(term, `terms.${i}`));
      return { claims, build: (bytes) => ({ kind: 'sum', shape, terms: terms.map((build) => build(bytes)) }) };
    }
    case 'parts': {
      only('axis', 'parts');
      const axis = oneOf<Parts['axis']>(of.axis, 'axis', ['out', 'in']);
      const parts = list(of.parts, 'parts').map((part, i) => {
        const size = pair((typeof part === 'object' && part !== null ? (part as Fields) : {}).shape, 'shape')[axis === 'out' ? 0 : 1];
        const index = claim(`parts.${i}.index`, [size], 'U32');
        return { index, build: inner(part, `parts.${i}.base`) };
      });
      return {
        claims,
        build: (bytes) => ({
          kind: 'parts',
          shape,
          axis,
          parts: parts.map((p) => ({ index: typedView(bytes[p.index]!, Uint32Array), base: p.build(bytes) })),
        }),
      };
    }
    case 'rescaled': {
      only('base');
      const scale = claim('input_scale', [cols], 'F32');
      const base = inner(of.base, 'base');
      return {
        claims,
        build: (bytes) => ({ kind: 'rescaled', shape, inputScale: typedView(bytes[scale]!, Float32Array), base: base(bytes) }),
      };
    }
    default:
      return r.fail('unknown layout', 'dense, minifloat, affine, lut, blocks, csr, sum, parts or rescaled', of.kind);
  }
}

/** A tensor of this layout without data: enough for its name, which tells the lengths of index lists. Call it after the claims were checked. */
export function skeleton(plan: LayoutPlan): CompressedTensor {
  return plan.build(plan.claims.map((c) => new Uint8Array(c.dtype === 'U32' ? 4 * c.shape[0]! : 0)));
}
