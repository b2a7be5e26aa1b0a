import { dense, encodeBlocks, validate } from '@lmq/formats';
import {
  type Affine,
  type Blocks,
  type CompressedTensor,
  type Csr,
  type Dense,
  type Lut,
  type Minifloat,
  ndarray,
  type Parts,
  type Rescaled,
  type Sum,
} from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { thrown } from './_thrown.js';

const d: Dense = dense('fp16', new Uint16Array(4 * 64), 4, 64);
const affine: Affine = {
  kind: 'affine',
  shape: [4, 64],
  bits: 3,
  groupSize: 32,
  codes: new Uint8Array(4 * 24),
  scales: { block: [1, 32], format: 'fp16', data: new Uint16Array(8) },
  zeroPoints: new Uint8Array(3),
  groupIndex: new Int32Array(64),
};
const lut: Lut = {
  kind: 'lut',
  shape: [4, 64],
  bits: 2,
  codes: new Uint8Array(4 * 16),
  tables: ndarray(new Float32Array(16), [4, 4]),
  tablePer: 'row',
  scales: { block: [4, 64], format: 'fp32', data: Float32Array.of(1) },
};
const minifloat: Minifloat = {
  kind: 'minifloat',
  shape: [4, 64],
  format: 'fp4e2m1',
  codes: new Uint8Array(4 * 32),
  scales: { block: [1, 16], format: 'fp8e4m3', data: new Uint8Array(16), global: { op: 'divide', value: 2 } },
};
const mx: Minifloat = { ...minifloat, scales: { block: [1, 32], format: 'e8m0', data: new Uint8Array(8) } };
const twice: Lut = {
  ...lut,
  scales: {
    block: { flat: 32 },
    format: 'table8',
    data: new Uint8Array(8),
    table: new Float32Array(256),
    outer: { scales: { block: { flat: 5 }, format: 'fp32', data: new Float32Array(2) }, offset: 0.5 },
  },
};
/** The lut with scales that differ. */
const scaled = (scales: object) => ({ ...twice, scales: { ...twice.scales, ...scales } });
const outer = (scales: object) => scaled({ outer: { offset: 0, scales: { ...twice.scales!.outer!.scales, ...scales } } });
const nvfp4 = (scales: object) => ({ ...minifloat, scales: { ...minifloat.scales, ...scales } });
const blocks: Blocks = encodeBlocks('Q8_0', ndarray(new Float32Array(256), [4, 64]));
const csr: Csr = {
  kind: 'csr',
  shape: [4, 64],
  format: 'fp16',
  rowStart: Uint32Array.of(0, 2, 2, 3, 3),
  columns: Uint32Array.of(0, 63, 5),
  data: new Uint16Array(3),
};
const sum: Sum = { kind: 'sum', shape: [4, 64], terms: [affine, d] };
const rescaled: Rescaled = { kind: 'rescaled', shape: [4, 64], inputScale: new Float32Array(64), base: affine };
const half = (from: number) => ({ index: Uint32Array.of(from, from + 2), base: dense('fp32', new Float32Array(128), 2, 64) });
const parts: Parts = { kind: 'parts', shape: [4, 64], axis: 'out', parts: [half(1), half(0)] };

const badBlocks = blocks.data.slice();
badBlocks[34 + 1] = 0x7c; // infinite
const scaleWith = (bits: number) => Uint16Array.of(0, 0, 0, bits, 0, 0, 0, 0);
const index = (at: number, g: number) => {
  const out = new Int32Array(64);
  out[at] = g;
  return out;
};
let nested: CompressedTensor = d;
for (let i = 0; i < 9; i++) nested = { kind: 'sum', shape: [4, 64], terms: [nested] };

describe('validate', () => {
  it.each<[string, CompressedTensor]>([
    ['dense', d],
    ['affine', affine],
    ['lut', lut],
    ['lut, scales quantized twice', twice],
    ['minifloat with a global scale', minifloat],
    ['minifloat with powers of two', mx],
    ['minifloat without scales', { ...minifloat, scales: undefined }],
    ['blocks', blocks],
    ['csr', csr],
    ['csr without weights', { ...csr, rowStart: new Uint32Array(5), columns: new Uint32Array(), data: new Uint16Array() }],
    ['sum', sum],
    ['parts', parts],
    ['rescaled', rescaled],
  ])('accepts %s', (_, t) => {
    validate(t);
  });

  it('does not look at dense numbers', () => {
    validate(dense('fp32', Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY), 1, 2));
  });

  it.each<[string, unknown, 'argument/shape' | 'argument/value' | 'argument/option', string]>([
    ['no tensor', undefined, 'argument/value', 'unknown layout'],
    ['unknown kind', { ...d, kind: 'toString' }, 'argument/value', 'unknown layout'],
    ['rank', { ...d, shape: [256] }, 'argument/shape', 'weight.shape'],
    ['zero rows', { ...d, shape: [0, 64] }, 'argument/shape', 'weight.shape'],
    ['fractional rows', { ...d, shape: [2.5, 64] }, 'argument/shape', 'weight.shape'],
    ['huge shape', { ...d, shape: [2 ** 40, 2 ** 40] }, 'argument/shape', 'weight.shape'],
    ['dense length', { ...d, shape: [4, 63] }, 'argument/shape', 'weight.data'],
    ['dense format', { ...d, format: 'fp8' }, 'argument/option', 'float format'],
    ['dense array', { ...d, data: new Float32Array(256) }, 'argument/value', 'Uint16Array'],
    ['csr rows', { ...csr, rowStart: Uint32Array.of(0, 2, 3, 3) }, 'argument/shape', 'weight.rowStart'],
    ['csr kind of rows', { ...csr, rowStart: Int32Array.of(0, 2, 2, 3, 3) }, 'argument/value', 'Uint32Array'],
    ['csr start', { ...csr, rowStart: Uint32Array.of(1, 2, 2, 3, 3) }, 'argument/value', 'weight.rowStart'],
    ['csr end', { ...csr, rowStart: Uint32Array.of(0, 2, 2, 3, 4) }, 'argument/value', 'weight.rowStart'],
    ['csr rows that fall', { ...csr, rowStart: Uint32Array.of(0, 2, 1, 3, 3) }, 'argument/value', 'weight.rowStart[2]'],
    ['csr row beyond the end', { ...csr, rowStart: Uint32Array.of(0, 9, 2, 3, 3) }, 'argument/value', 'weight.columns[2]'],
    ['csr column', { ...csr, columns: Uint32Array.of(0, 64, 5) }, 'argument/value', 'weight.columns[1]'],
    ['csr columns twice', { ...csr, columns: Uint32Array.of(7, 7, 5) }, 'argument/value', 'weight.columns[1]'],
    ['csr columns', { ...csr, columns: Uint32Array.of(0, 5) }, 'argument/shape', 'weight.data'],
    ['csr data', { ...csr, format: 'fp32' }, 'argument/value', 'Float32Array'],
    ['bits 0', { ...affine, bits: 0 }, 'argument/value', 'weight.bits'],
    ['bits 9', { ...affine, bits: 9 }, 'argument/value', 'weight.bits'],
    ['bits 2.5', { ...lut, bits: 2.5 }, 'argument/value', 'weight.bits'],
    ['short codes', { ...affine, codes: new Uint8Array(95) }, 'argument/shape', 'weight.codes'],
    ['long codes', { ...affine, codes: new Uint8Array(97) }, 'argument/shape', 'weight.codes'],
    ['codes array', { ...affine, codes: new Int8Array(96) }, 'argument/value', 'weight.codes'],
    ['groupSize against block', { ...affine, groupSize: 64 }, 'argument/shape', 'groupSize'],
    [
      'groupSize wider than a row',
      { ...affine, groupSize: 128, scales: { ...affine.scales, block: [1, 128] } },
      'argument/shape',
      'scales.block[1]',
    ],
    ['block of no rows', { ...affine, scales: { ...affine.scales, block: [0, 32] } }, 'argument/shape', 'scales.block[0]'],
    ['scale count', { ...affine, scales: { ...affine.scales, data: new Uint16Array(7) } }, 'argument/shape', 'scales.data'],
    ['scale array', { ...affine, scales: { ...affine.scales, data: new Float32Array(8) } }, 'argument/value', 'Uint16Array'],
    ['infinite fp16 scale', { ...affine, scales: { ...affine.scales, data: scaleWith(0x7c00) } }, 'argument/value', 'scales.data[3]'],
    [
      'NaN bf16 scale',
      { ...affine, scales: { ...affine.scales, format: 'bf16', data: scaleWith(0xffc0) } },
      'argument/value',
      'scales.data[3]',
    ],
    ['NaN fp32 scale', { ...lut, scales: { ...lut.scales, data: Float32Array.of(Number.NaN) } }, 'argument/value', 'scales.data[0]'],
    ['zero point count', { ...affine, zeroPoints: new Uint8Array(4) }, 'argument/shape', 'zeroPoints'],
    ['zero point array', { ...affine, zeroPoints: new Float32Array(3) }, 'argument/value', 'zeroPoints'],
    [
      'float zero point count',
      { ...affine, zeroPoints: { format: 'fp16', data: new Uint16Array(7) } },
      'argument/shape',
      'zeroPoints.data',
    ],
    ['float zero point array', { ...affine, zeroPoints: { format: 'fp16', data: new Float32Array(8) } }, 'argument/value', 'Uint16Array'],
    ['float zero point format', { ...affine, zeroPoints: {} }, 'argument/option', 'format'],
    ['NaN zero point', { ...affine, zeroPoints: { format: 'fp16', data: scaleWith(0x7e00) } }, 'argument/value', 'zeroPoints.data[3]'],
    ['group index length', { ...affine, groupIndex: new Int32Array(63) }, 'argument/shape', 'groupIndex'],
    ['group index array', { ...affine, groupIndex: new Uint32Array(64) }, 'argument/value', 'groupIndex'],
    ['group index too large', { ...affine, groupIndex: index(5, 2) }, 'argument/value', 'groupIndex[5]'],
    ['group index negative', { ...affine, groupIndex: index(63, -1) }, 'argument/value', 'groupIndex[63]'],
    ['lut codes', { ...lut, codes: new Uint8Array(3) }, 'argument/shape', 'weight.codes'],
    ['table count', { ...lut, tablePer: 'column' }, 'argument/shape', 'weight.tables'],
    ['table size', { ...lut, tables: ndarray(new Float32Array(32), [4, 8]) }, 'argument/shape', 'weight.tables'],
    ['tables beyond their data', { ...lut, tables: ndarray(new Float32Array(15), [4, 4], [1, 4], 0) }, 'argument/shape', ''],
    ['tables array', { ...lut, tables: ndarray(new Float64Array(16), [4, 4]) }, 'argument/value', 'weight.tables'],
    [
      'infinite table',
      { ...lut, tables: ndarray(new Float32Array(16).fill(Number.POSITIVE_INFINITY, 7, 8), [4, 4]) },
      'argument/value',
      'element 7',
    ],
    ['minifloat format', { ...minifloat, format: 'fp8' }, 'argument/value', 'weight.format'],
    ['minifloat format of the prototype', { ...minifloat, format: 'constructor' }, 'argument/value', 'weight.format'],
    ['minifloat codes', { ...minifloat, codes: new Uint8Array(127) }, 'argument/shape', 'weight.codes'],
    ['minifloat codes array', { ...minifloat, codes: new Uint16Array(128) }, 'argument/value', 'weight.codes'],
    ['other bits', { ...minifloat, format: 'fp6e2m3' }, 'argument/shape', 'weight.codes'],
    ['scale format', nvfp4({ format: 'constructor' }), 'argument/option', 'float format'],
    ['NaN E4M3 scale', nvfp4({ data: new Uint8Array(16).fill(0x7f, 3) }), 'argument/value', 'scales.data[3]'],
    ['NaN E8M0 scale', { ...mx, scales: { ...mx.scales, data: new Uint8Array(8).fill(255, 2) } }, 'argument/value', 'scales.data[2]'],
    ['E8M0 scale array', { ...mx, scales: { ...mx.scales, data: new Float32Array(8) } }, 'argument/value', 'Uint8Array'],
    ['global scale 0', nvfp4({ global: { op: 'divide', value: 0 } }), 'argument/value', 'global.value'],
    ['infinite global scale', nvfp4({ global: { op: 'multiply', value: Number.POSITIVE_INFINITY } }), 'argument/value', 'global.value'],
    ['a global scale of double precision', nvfp4({ global: { op: 'multiply', value: 0.1 } }), 'argument/value', 'global.value'],
    ['global operation', nvfp4({ global: { op: 'add', value: 1 } }), 'argument/value', 'global.op'],
    [
      'a scale that overflows',
      nvfp4({ data: new Uint8Array(16).fill(0x7e), global: { op: 'divide', value: 2 ** -130 } }),
      'argument/value',
      'scales.data[0]',
    ],
    ['global scale of another format', { ...mx, scales: { ...mx.scales, global: { op: 'divide', value: 1 } } }, 'argument/value', 'global'],
    ['no block', scaled({ block: undefined }), 'argument/shape', 'scales.block'],
    ['block of one number', scaled({ block: [4] }), 'argument/shape', 'scales.block'],
    ['flat block 0', scaled({ block: { flat: 0 } }), 'argument/shape', 'block.flat'],
    ['flat block larger than the weight', scaled({ block: { flat: 257 } }), 'argument/shape', 'block.flat'],
    ['flat scale count', scaled({ block: { flat: 31 } }), 'argument/shape', 'scales.data'],
    ['flat blocks of affine codes', { ...affine, scales: { ...affine.scales, block: { flat: 32 } } }, 'argument/shape', 'groupSize'],
    ['no table', scaled({ table: undefined }), 'argument/value', 'table is missing'],
    ['table of other size', scaled({ table: new Float32Array(255) }), 'argument/shape', 'scales.table'],
    ['table of another array', scaled({ table: new Float64Array(256) }), 'argument/value', 'scales.table'],
    ['NaN in the table', scaled({ table: new Float32Array(256).fill(Number.NaN, 9) }), 'argument/value', 'scales.table[9]'],
    ['a table that does not belong', nvfp4({ table: new Float32Array(256) }), 'argument/value', 'scales.table'],
    ['outer scales that do not belong', nvfp4({ outer: twice.scales!.outer }), 'argument/value', 'scales.outer'],
    ['outer block', outer({ block: { flat: 9 } }), 'argument/shape', 'outer.scales.block'],
    ['outer count', outer({ block: { flat: 8 } }), 'argument/shape', 'outer.scales.data'],
    ['outer array', outer({ data: new Uint16Array(2) }), 'argument/value', 'Float32Array'],
    ['infinite outer scale', outer({ data: Float32Array.of(1, Number.POSITIVE_INFINITY) }), 'argument/value', 'outer.scales.data[1]'],
    ['infinite offset', scaled({ outer: { ...twice.scales!.outer, offset: Number.NaN } }), 'argument/value', 'outer.offset'],
    ['tablePer', { ...lut, tablePer: 'group' }, 'argument/value', 'tablePer'],
    ['block type', { ...blocks, type: 'Q9_K' }, 'argument/value', 'weight.type'],
    ['rows of half blocks', { ...blocks, shape: [8, 48] }, 'argument/shape', 'whole blocks'],
    ['block bytes', { ...blocks, data: blocks.data.subarray(1) }, 'argument/shape', 'weight.data'],
    ['infinite block scale', { ...blocks, data: badBlocks }, 'argument/value', 'weight.data'],
    ['no terms', { ...sum, terms: [] }, 'argument/shape', 'weight.terms'],
    ['terms of other shape', { ...sum, terms: [d, dense('fp16', d.data, 64, 4)] }, 'argument/shape', 'weight.terms[1]'],
    ['a broken term', { ...sum, terms: [d, { ...affine, bits: 0 }] }, 'argument/value', 'weight.terms[1].bits'],
    ['axis', { ...parts, axis: 'rows' }, 'argument/value', 'weight.axis'],
    ['no parts', { ...parts, parts: [] }, 'argument/shape', 'cover'],
    ['a part missing', { ...parts, parts: [half(1)] }, 'argument/shape', 'cover'],
    ['overlapping parts', { ...parts, parts: [half(1), half(1)] }, 'argument/value', 'parts[1].index'],
    ['a part that leaves', { ...parts, parts: [half(0), half(2)] }, 'argument/value', 'parts[1].index'],
    ['base of other shape', { ...parts, axis: 'in' }, 'argument/shape', 'parts[0].base'],
    ['index array', { ...parts, parts: [{ ...half(0), index: Int32Array.of(0, 2) }, half(1)] }, 'argument/value', 'parts[0].index'],
    [
      'a broken part',
      { ...parts, parts: [half(0), { ...half(1), base: { ...half(1).base, format: 'fp16' } }] },
      'argument/value',
      'Uint16Array',
    ],
    ['input scale length', { ...rescaled, inputScale: new Float32Array(4) }, 'argument/shape', 'inputScale'],
    ['input scale array', { ...rescaled, inputScale: new Float64Array(64) }, 'argument/value', 'inputScale'],
    [
      'infinite input scale',
      { ...rescaled, inputScale: new Float32Array(64).fill(Number.NEGATIVE_INFINITY) },
      'argument/value',
      'inputScale[0]',
    ],
    ['rescaled base of other shape', { ...rescaled, shape: [8, 64] }, 'argument/shape', 'weight.base'],
    ['a broken base', { ...rescaled, base: { ...affine, codes: new Uint8Array(1) } }, 'argument/shape', 'weight.base.codes'],
    ['nesting without end', nested, 'argument/value', 'nested too deep'],
  ])('refuses: %s', (_, t, code, text) => {
    const e = thrown(() => validate(t as CompressedTensor));
    expect(e.code).toBe(code);
    expect(e.message).toContain(text);
  });
});
