/**
 * Weights in this backend's memory. Dense fp16 and bf16 weights stay as they are, fp32 is laid out in panels. Affine weights keep packed codes: 4 and 8 bits as
 * they are, 1 … 3 bits widened to 4 and 5 … 7 to 8; scales and stored zero points become f32 [out, groups]. GGUF blocks become the same,
 * once, here: what they decode to does not change by a bit. Other layouts stay on the JavaScript side and are decoded a tile of rows at a
 * time when used.
 * @module
 */
import {
  blocksToAffine,
  byteLength,
  isFloatZeros,
  packRows,
  rowBytes,
  scaleGrid,
  scaleValues,
  unpackRows,
  validate,
  zeroValues,
} from '@lmq/formats';
import type { Activations, Affine, Blocks, CompressedTensor, Dense, InputQuant, Linear, OutlierCount } from '@lmq/tensor';
import { unpackBlocks } from './blocks.js';
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

export interface ForeignWeight {
  kind: 'foreign';
  weight: CompressedTensor;
}

export interface PackedWeight {
  out: number;
  in: number;
  form: DenseWeight | PanelWeight | AffineWeight | ForeignWeight;
  /** How the input meets codes, if there are any. */
  activations: Activations;
  /** How the input is quantized first; `form` is affine then. */
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
    const fp32 = weight.kind === 'dense' && weight.data instanceof Float32Array ? weight.data : null;
    const form = fp32 ? packPanels(core, fp32, rows, cols, take(Math.ceil(rows / 8) * cols * 32, false)) : pack(weight, put);
    const bias = linear.bias ? put(linear.bias) : null;
    const own = form.kind === 'foreign' ? byteLength(weight) : 0;
    const bytes = blocks.reduce((sum, b) => sum + b.bytes, own);
    const outliers = linear.input?.kind === 'llm-int8' ? { outliers: { columns: 0, of: 0 } } : {};
    const input = linear.input && { input: linear.input };
    return {
      packed: { out: weight.shape[0], in: weight.shape[1], form, activations, ...input, ...outliers, bias, blocks },
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

type Put = (data: Uint8Array | Float32Array | Uint16Array | Int32Array, extra?: number) => Block;

function pack(weight: CompressedTensor, put: Put): PackedWeight['form'] {
  if (weight.kind === 'dense') return packDense(weight, put);
  if (weight.kind === 'affine') return packAffine(weight, put);
  if (weight.kind === 'blocks') return packBlocks(weight, put);
  return { kind: 'foreign', weight };
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
  const perRow = <D extends Float32Array>(grid: D): Float32Array => {
    if (scaleRows === rows) return grid;
    const out = new Float32Array(rows * groups);
    for (let r = 0; r < rows; r++) {
      const g = Math.floor(r / t.scales.block[0]) * groups;
      out.set(grid.subarray(g, g + groups), r * groups);
    }
    return out;
  };
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
