/**
 * Weights in this backend's memory. Dense fp16 and bf16 weights stay as they are, fp32 is laid out in panels. Affine weights keep packed codes: 4 and 8 bits as
 * they are, 1 … 3 bits widened to 4 and 5 … 7 to 8; scales and stored zero points become f32 [out, groups]. GGUF blocks become the same,
 * once, here: what they decode to does not change by a bit. Look-up tables of up to 4 bits, one for all rows or one for each, keep packed codes too; what is added
 * to a weight as sparse rows lies beside it. Other layouts stay on the JavaScript side and are decoded a tile of rows at a
 * time when used.
 * @module
 */
import {
  blocksToAffine,
  byteLength,
  decodeFloats,
  isFloatZeros,
  packRows,
  rowBytes,
  scaleGrid,
  scaleValues,
  unpackRows,
  validate,
  zeroValues,
} from '@lmq/formats';
import {
  type Activations,
  type Affine,
  type Blocks,
  type CompressedTensor,
  type Csr,
  contiguous,
  type Dense,
  type InputQuant,
  type Linear,
  type Lut,
  type OutlierCount,
  type Scales,
} from '@lmq/tensor';
import { unpackBlocks } from './blocks.js';
import { type BytesWeight, packBytes } from './bytes.js';
import { type Core, withScratch } from './core.js';
import { blockDepth, panelOffset } from './gemm.js';
import type { Block, WasmMemory } from './memory.js';

export interface DenseWeight {
  kind: 'dense';
  format: 'fp16' | 'bf16';
  data: Block;
  /** Bytes from row to row. */
  stride: number;
}

/** fp32, packed as gemm reads it (`Panels`): nothing is left to pack when it is multiplied. */
export interface PanelWeight {
  kind: 'panels';
  data: Block;
  /** Rows of the weight, rounded up to whole panels. */
  rows: number;
}

export interface AffineWeight {
  kind: 'affine';
  bits: 4 | 8;
  codes: Block;
  /** Bytes from row to row of codes. */
  stride: number;
  /** f32 [out, groups]. */
  scales: Block;
  /** f32 [out, groups], or null: every zero point is `zero`. */
  zeros: Block | null;
  /** Whether zero points are integers. */
  wholeZeros: boolean;
  zero: number;
  /**
   * f32 [out, groups], added to every weight of a group; or null. With it, `zeros` is null and `zero` the one that gemv reads codes with: 0
   * for 4 bits, 128 for 8.
   */
  mins: Block | null;
  groups: number;
  groupSize: number;
  /** i32 [in], or null: groups in order. */
  groupIndex: Block | null;
}

/** Codes of 4 bits and the tables that they index. */
export interface TableWeight {
  kind: 'table';
  codes: Block;
  /** Bytes from row to row of codes. */
  stride: number;
  /** f32 [1 or out, 16]. */
  tables: Block;
  /** Bytes from row to row of tables; 0: one for all rows. */
  tableStride: number;
  /** f32 [out, groups], or null: all are 1. */
  scales: Block | null;
  groups: number;
  groupSize: number;
}

/** Compressed sparse rows, added to a weight. */
export interface SparseWeight {
  /** u32 [out + 1]. */
  rowStart: Block;
  /** u32. */
  columns: Block;
  /** f32. */
  values: Block;
}

export interface ForeignWeight {
  kind: 'foreign';
  weight: CompressedTensor;
}

export interface PackedWeight {
  out: number;
  in: number;
  form: DenseWeight | PanelWeight | AffineWeight | BytesWeight | TableWeight | ForeignWeight;
  /** What is added to it, if anything. */
  sparse: SparseWeight | null;
  /** How the input meets codes, if there are any. */
  activations: Activations;
  /** How the input is quantized first; `form` is affine or bytes then. */
  input?: InputQuant;
  /** Of `llm-int8` input. */
  outliers?: OutlierCount;
  /** f32 [out]. */
  bias: Block | null;
  /** All that unload gives back. */
  blocks: Block[];
}

/** Kernels read whole vectors: the last one may start in the last row and end this far behind it. */
const OVERREAD = 32;
/** Rows on their way into panels. */
const STRIP_BYTES = 2 ** 20;

/**
 * Packs a weight.
 * @throws LmqError `backend/memory`; what `validate` of formats throws
 */
export function loadLinear(
  core: Core,
  linear: Linear,
  activations: Activations,
): { packed: PackedWeight; bytes: number; outliers?: OutlierCount } {
  const { weight } = linear;
  const { memory } = core;
  validate(weight);
  const blocks: Block[] = [];
  const take = (bytes: number, zero: boolean): Block => {
    const block = memory.allocate(bytes, zero);
    blocks.push(block);
    return block;
  };
  const put: Put = (data, extra = 0) => {
    const block = take(data.byteLength + extra, extra > 0);
    memory.u8().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), block.address);
    return block;
  };
  try {
    const [rows, cols] = weight.shape;
    const [base, csr] = denseAndSparse(weight);
    const fp32 = base.kind === 'dense' && base.data instanceof Float32Array ? base.data : null;
    const form = fp32
      ? packPanels(core, fp32, rows, cols, take(Math.ceil(rows / 8) * cols * 32, false))
      : linear.input && base.kind === 'affine' && fitsBytes(base)
        ? packSymmetric(core, base, take)
        : pack(base, put);
    const sparse = csr && packCsr(csr, put);
    const bias = linear.bias ? put(linear.bias) : null;
    const own = form.kind === 'foreign' ? byteLength(base) : 0;
    const bytes = blocks.reduce((sum, b) => sum + b.bytes, own);
    const outliers = linear.input?.kind === 'llm-int8' ? { outliers: { columns: 0, of: 0 } } : {};
    const input = linear.input && { input: linear.input };
    return {
      packed: { out: weight.shape[0], in: weight.shape[1], form, sparse, activations, ...input, ...outliers, bias, blocks },
      bytes,
      ...outliers,
    };
  } catch (e) {
    for (const block of blocks) memory.release(block);
    throw e;
  }
}

export function unload(memory: WasmMemory, packed: PackedWeight): void {
  for (const block of packed.blocks) memory.release(block);
}

type Put = (data: Uint8Array | Float32Array | Uint16Array | Int32Array | Uint32Array, extra?: number) => Block;

function pack(weight: CompressedTensor, put: Put): PackedWeight['form'] {
  if (weight.kind === 'dense') return packDense(weight, put);
  if (weight.kind === 'affine') return packAffine(weight, put);
  if (weight.kind === 'blocks') return packBlocks(weight, put);
  if (weight.kind === 'lut') return packTable(weight, put) ?? { kind: 'foreign', weight };
  return { kind: 'foreign', weight };
}

/** A weight and the sparse rows added to it: they come last, so that decoding adds in the same order. */
function denseAndSparse(weight: CompressedTensor): [base: CompressedTensor, sparse: Csr | null] {
  if (weight.kind !== 'sum' || weight.terms.length !== 2 || weight.terms[1]!.kind !== 'csr') return [weight, null];
  return [weight.terms[0]!, weight.terms[1]];
}

function packCsr({ rowStart, columns, format, data }: Csr, put: Put): SparseWeight {
  return { rowStart: put(rowStart), columns: put(columns, 4), values: put(decodeFloats(format, data), 4) };
}

/** Null where the kernels do not reach: more than 4 bits, tables by column, runs of scales that do not fit rows. */
function packTable(t: Lut, put: Put): TableWeight | null {
  const [rows, cols] = t.shape;
  if (t.bits > 4 || t.tablePer === 'column') return null;
  const scales = t.scales && rowScales(t.scales, rows, cols);
  if (scales === null) return null;
  const size = 2 ** t.bits;
  const narrow = contiguous(t.tables);
  const tables = new Float32Array((narrow.length / size) * 16);
  for (let i = 0; i < narrow.length; i += size) tables.set(narrow.subarray(i, i + size), (i / size) * 16);
  return {
    kind: 'table',
    codes: put(t.bits === 4 ? t.codes : packRows(unpackRows(t.codes, t.bits, rows, cols), 4, rows, cols), OVERREAD),
    stride: rowBytes(cols, 4),
    tables: put(tables),
    tableStride: t.tablePer === 'row' ? 64 : 0,
    scales: scales ? put(scales.values) : null,
    groups: scales?.groups ?? 1,
    groupSize: scales?.groupSize ?? cols,
  };
}

/** Scales as f32 [rows, groups], or null where a row is no whole number of groups' runs. */
function rowScales(scales: Scales, rows: number, cols: number): { values: Float32Array; groups: number; groupSize: number } | null {
  const stored = scaleValues(scales);
  if (Array.isArray(scales.block)) {
    const [height, groupSize] = scales.block;
    const groups = scaleGrid(scales, [rows, cols])[1];
    return { values: spreadRows(stored, rows, groups, height), groups, groupSize };
  }
  const { flat } = scales.block;
  if (cols % flat === 0) return { values: stored, groups: cols / flat, groupSize: flat };
  return flat % cols === 0 ? { values: spreadRows(stored, rows, 1, flat / cols), groups: 1, groupSize: cols } : null;
}

/** Values that `height` rows share, repeated for each of them. */
function spreadRows(grid: Float32Array, rows: number, groups: number, height: number): Float32Array {
  if (height === 1) return grid;
  const out = new Float32Array(rows * groups);
  for (let r = 0; r < rows; r++) {
    const g = Math.floor(r / height) * groups;
    out.set(grid.subarray(g, g + groups), r * groups);
  }
  return out;
}

function packBlocks(weight: Blocks, put: Put): PackedWeight['form'] {
  const unpacked = unpackBlocks(weight);
  if (unpacked) {
    const { bits, groupSize, codes, scales, mins } = unpacked;
    const cols = weight.shape[1];
    return {
      kind: 'affine',
      bits,
      codes: put(codes, OVERREAD),
      stride: rowBytes(cols, bits),
      scales: put(scales),
      zeros: null,
      wholeZeros: true,
      zero: bits === 4 ? 0 : 128,
      mins: mins && put(mins),
      groups: cols / groupSize,
      groupSize,
      groupIndex: null,
    };
  }
  const affine = blocksToAffine(weight);
  return affine ? packAffine(affine, put) : { kind: 'foreign', weight };
}

/** Strips of rows go through scratch memory, so that no second copy is needed. */
function packPanels(core: Core, source: Float32Array, rows: number, cols: number, data: Block): PanelWeight {
  const padded = data.bytes / (cols * 4);
  const depth = blockDepth(cols);
  const strip = 8 * Math.max(1, Math.floor(STRIP_BYTES / (cols * 32)));
  withScratch(core, Math.min(strip, rows) * cols * 4, (scratch) => {
    for (let r = 0; r < rows; r += strip) {
      const count = Math.min(strip, rows - r);
      core.memory.f32().set(source.subarray(r * cols, (r + count) * cols), scratch / 4);
      for (let k = 0; k < cols; k += depth) {
        const kc = Math.min(depth, cols - k);
        core.wasm.packRows(scratch + k * 4, cols * 4, count, kc, data.address + panelOffset(padded, r, k, kc), 8);
      }
    }
  });
  return { kind: 'panels', data, rows: padded };
}

/** Whether quantized inputs meet panels of its codes: 5 … 8 bits, symmetric, one scale a row. */
function fitsBytes({ bits, zeroPoints, groupSize, shape: [, cols] }: Affine): boolean {
  return bits > 4 && !zeroPoints && groupSize >= cols;
}

function packSymmetric(core: Core, t: Affine, take: (bytes: number, zero: boolean) => Block): BytesWeight {
  const [rows, cols] = t.shape;
  const codes = t.bits === 8 ? t.codes : widen(t, 8, 128 - 2 ** (t.bits - 1));
  const scales = spreadRows(scaleValues(t.scales), rows, 1, t.scales.block[0]);
  return packBytes(core, codes, scales, rows, cols, take);
}

function packDense({ format, data, shape }: Dense, put: Put): DenseWeight {
  return { kind: 'dense', format: format as DenseWeight['format'], data: put(data, OVERREAD), stride: shape[1] * data.BYTES_PER_ELEMENT };
}

function packAffine(t: Affine, put: Put): AffineWeight {
  const [rows, cols] = t.shape;
  const bits = t.bits <= 4 ? 4 : 8;
  // codes widened to 8 bits move up to a middle of 128, the zero that gemv reads them with: less to take away, and none if symmetric
  const up = bits === 8 && !isFloatZeros(t.zeroPoints) ? 128 - 2 ** (t.bits - 1) : 0; // a float moved up would lose its last bits
  const codes = t.bits === bits ? t.codes : widen(t, bits, up);
  const [scaleRows, groups] = scaleGrid(t.scales, t.shape);
  const perRow = (grid: Float32Array) => spreadRows(grid, rows, groups, t.scales.block[0]);
  return {
    kind: 'affine',
    bits,
    codes: put(codes, OVERREAD),
    stride: rowBytes(cols, bits),
    scales: put(perRow(scaleValues(t.scales))),
    zeros: t.zeroPoints ? put(perRow(Float32Array.from(zeroValues(t, 0, scaleRows * groups), (z) => z + up))) : null,
    wholeZeros: !isFloatZeros(t.zeroPoints),
    zero: 2 ** (t.bits - 1) + up,
    mins: null,
    groups,
    groupSize: t.groupSize,
    groupIndex: t.groupIndex ? put(t.groupIndex) : null,
  };
}

/** Codes of more bits, each `up` larger. */
function widen({ codes, bits, shape: [rows, cols] }: Affine, to: 4 | 8, up: number): Uint8Array {
  const wide = unpackRows(codes, bits, rows, cols);
  if (up !== 0) for (let i = 0; i < wide.length; i++) wide[i] = wide[i]! + up;
  return packRows(wide, to, rows, cols);
}
