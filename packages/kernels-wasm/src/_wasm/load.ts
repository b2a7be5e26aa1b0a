/**
 * Weights in this backend's memory. Dense weights keep their format (fp32, fp16, bf16). Affine weights keep packed codes: 4 and 8 bits as
 * they are, 1 … 3 bits widened to 4 and 5 … 7 to 8; scales and stored zero points become f32 [out, groups]. GGUF blocks become the same,
 * once, here: what they decode to does not change by a bit. Other layouts stay on the JavaScript side and are decoded a tile of rows at a
 * time when used.
 * @module
 */
import {
  blocksToAffine,
  byteLength,
  decodeFloats,
  packRows,
  rowBytes,
  scaleGrid,
  unpackRows,
  validate,
  zeroPointValues,
} from '@lmq/formats';
import {
  type Activations,
  type Affine,
  type Blocks,
  type CompressedTensor,
  type Dense,
  type FloatFormat,
  type Linear,
  LmqError,
} from '@lmq/tensor';
import { unpackBlocks } from './blocks.js';
import type { Block, WasmMemory } from './memory.js';

export interface DenseWeight {
  kind: 'dense';
  format: FloatFormat;
  data: Block;
  /** Bytes from row to row. */
  stride: number;
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
  form: DenseWeight | AffineWeight | ForeignWeight;
  /** How the input meets the codes; float32 but for layout `affine`. */
  activations: Activations;
  /** f32 [out]. */
  bias: Block | null;
  /** All that unload gives back. */
  blocks: Block[];
}

/** Kernels read whole vectors: the last one may start in the last row and end this far behind it. */
const OVERREAD = 32;

/**
 * Packs a weight.
 * @throws LmqError `backend/memory`; `backend/unsupported` for a linear that quantizes its input; what `validate` of formats throws
 */
export function loadLinear(memory: WasmMemory, linear: Linear, activations: Activations): { packed: PackedWeight; bytes: number } {
  if (linear.input) {
    throw new LmqError('backend/unsupported', 'this backend does not quantize the input of a linear', {
      op: 'load',
      expected: 'no input quantization',
      found: linear.input.kind,
      hint: 'Leave out input, which multiplies float32 activations.',
    });
  }
  const { weight } = linear;
  validate(weight);
  const blocks: Block[] = [];
  const put = (data: Uint8Array | Float32Array | Uint16Array | Int32Array, extra = 0): Block => {
    const block = memory.allocate(data.byteLength + extra, extra > 0);
    blocks.push(block);
    memory.u8().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), block.address);
    return block;
  };
  try {
    const form = pack(weight, put);
    const bias = linear.bias ? put(linear.bias) : null;
    const own = form.kind === 'foreign' ? byteLength(weight) : 0;
    const bytes = blocks.reduce((sum, b) => sum + b.bytes, own);
    // by contract only layout affine meets rounded inputs, even if others become the same form here
    const meets = weight.kind === 'affine' ? activations : 'float32';
    return { packed: { out: weight.shape[0], in: weight.shape[1], form, activations: meets, bias, blocks }, bytes };
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

function packDense({ format, data, shape }: Dense, put: Put): DenseWeight {
  return { kind: 'dense', format, data: put(data, OVERREAD), stride: shape[1] * data.BYTES_PER_ELEMENT };
}

function packAffine(t: Affine, put: Put): AffineWeight {
  const [rows, cols] = t.shape;
  const bits = t.bits <= 4 ? 4 : 8;
  // codes widened to 8 bits move up to a middle of 128, the zero that gemv reads them with: less to take away, and none if symmetric
  const up = bits === 8 ? 128 - 2 ** (t.bits - 1) : 0;
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
    scales: put(perRow(decodeFloats(t.scales.format, t.scales.data))),
    zeros: t.zeroPoints ? put(perRow(Float32Array.from(zeroPointValues(t, 0, scaleRows * groups), (z) => z + up))) : null,
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
