/**
 * Weights to GGUF blocks: from float32 by the reference's scale choice, or from affine codes without changing a value.
 * @module
 */
import { type Affine, type Blocks, type BlockType, checkOneOf, contiguous, LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { BLOCK_ENCODERS } from './block-types/encoders.js';
import { BLOCK_TYPE_NAMES, ENCODABLE_BLOCK_TYPES } from './block-types/names.js';
import { BLOCK_TYPES } from './block-types/table.js';
import { roundToFormat } from './floats.js';
import { floatToFp16 } from './fp16.js';
import { zeroValues } from './layouts/affine.js';
import { blockRowBytes, firstBadBlock } from './layouts/blocks.js';
import { packRows, rowBytes, unpackInto } from './packing.js';
import { scaleGrid, scaleRows } from './scales.js';

export interface EncodeBlocksOpts {
  /**
   * What an error in each column costs: the mean square of the layer's inputs there, as in an importance matrix of llama.cpp. Length `in`,
   * or `k * in` where k divides `out`: one run of `in` per `out / k` rows (per expert of a stack; per row). Default: none, which is not the
   * same as equal importances. Types whose reference takes none (Q8_0, TQ1_0, TQ2_0, MXFP4, NVFP4) ignore it.
   */
  importance?: Float32Array;
  /**
   * Does the work of the type's own `BlockTypeEncoder.encode`, where no importances are weighed: the same bytes, faster. Default: that of the type.
   * `@lmq/kernels-wasm/encode-blocks` brings some.
   */
  kernel?: (src: Float32Array, out: Uint8Array) => void;
}

/**
 * Quantizes `w` [out, in] to blocks, byte for byte as ggml's reference (`quantize_<type>`) compiled without contraction of products and
 * sums. As there, a block whose columns all have importance 0 is stored as zeros or from its range alone.
 * @throws LmqError `argument/option` for an unknown type or one that lmq only reads, `argument/shape` when `in` is not a multiple of the
 * block size or the importances fit no rows, `argument/value` for weights that are not float32, NaN, infinity, a magnitude that the type
 * cannot hold, importances that are negative or not finite, and a run of importances that is all zero, which would wipe its rows out
 */
export function encodeBlocks(type: BlockType, w: Tensor, { importance, kernel }: EncodeBlocksOpts = {}): Blocks {
  const op = 'encodeBlocks';
  const {
    encode,
    encodeWeighted,
    largest = Number.POSITIVE_INFINITY,
  } = BLOCK_ENCODERS[checkOneOf(type, 'block type', ENCODABLE_BLOCK_TYPES, op)];
  const [rows, cols] = matrixShape(w, op);
  const traits = BLOCK_TYPES[type];
  const { blockSize } = traits;
  if (cols % blockSize !== 0) {
    throw new LmqError('argument/shape', 'rows are not whole blocks', { op, expected: `a multiple of ${blockSize} columns`, found: cols });
  }
  const src = contiguous(w);
  checkWeights(src, cols, type, largest, op);
  if (importance) checkImportance(importance, rows, cols, op);
  const step = blockRowBytes(type, cols);
  const data = new Uint8Array(rows * step);
  if (importance && encodeWeighted) {
    const rowsPerRun = (rows * cols) / importance.length;
    for (let r = 0; r < rows; r++) {
      const from = Math.floor(r / rowsPerRun) * cols;
      encodeWeighted(
        src.subarray(r * cols, (r + 1) * cols),
        importance.subarray(from, from + cols),
        data.subarray(r * step, (r + 1) * step),
      );
    }
  } else (kernel ?? encode)(src, data);
  const bad = firstBadBlock(data, traits);
  if (bad >= 0) {
    throw new LmqError('argument/value', `the scale or minimum of block ${bad} overflows fp16`, {
      op,
      hint: importance ? 'Scale the weight or the importances down.' : 'Scale the weight down.',
    });
  }
  return { kind: 'blocks', shape: [rows, cols], type, data };
}

function checkWeights(src: Float32Array, cols: number, type: BlockType, largest: number, op: string): void {
  if (!(src instanceof Float32Array)) {
    throw new LmqError('argument/value', 'the weights are the wrong kind of array', {
      op,
      expected: 'Float32Array',
      found: Object.prototype.toString.call(src).slice(8, -1),
    });
  }
  const bits = new Int32Array(src.buffer, src.byteOffset, src.length);
  const at = (i: number) => `weight [${Math.floor(i / cols)}, ${i % cols}]`;
  if (!allFinite(bits)) {
    const i = src.findIndex((x) => !Number.isFinite(x));
    throw new LmqError('argument/value', `${at(i)} is not finite`, { op, found: src[i] });
  }
  if (largest === Number.POSITIVE_INFINITY) return;
  for (let i = 0; i < src.length; i++) {
    if (Math.abs(src[i]) <= largest) continue;
    throw new LmqError('argument/value', `${at(i)} is too large for ${type}`, { op, expected: `at most ${largest}`, found: src[i] });
  }
}

/**
 * Whether float32 numbers, given by their bits, are all finite: one more in the exponent of those that are not reaches the sign. No branch
 * per weight, as the fastest encoders take little longer than this. The length is a multiple of 4, as of whole blocks.
 */
function allFinite(bits: Int32Array): boolean {
  let even = 0;
  let odd = 0;
  for (let i = 0; i < bits.length; i += 4) {
    even |= ((bits[i] & 0x7fffffff) + 0x800000) | ((bits[i + 1] & 0x7fffffff) + 0x800000);
    odd |= ((bits[i + 2] & 0x7fffffff) + 0x800000) | ((bits[i + 3] & 0x7fffffff) + 0x800000);
  }
  return (even | odd) >= 0;
}

function checkImportance(importance: Float32Array, rows: number, cols: number, op: string): void {
  const runs = importance.length / cols;
  if (!(importance instanceof Float32Array) || runs === 0 || rows % runs !== 0) {
    throw new LmqError('argument/shape', 'the importances do not fit the rows', {
      op,
      expected: `a Float32Array of ${cols}, or of k * ${cols} where k divides ${rows}`,
      found: importance.length,
    });
  }
  for (let from = 0; from < importance.length; from += cols) {
    let sum = 0;
    for (let i = from; i < from + cols; i++) {
      const v = importance[i];
      if (!(v >= 0 && v < Number.POSITIVE_INFINITY)) {
        throw new LmqError('argument/value', `importance ${i} is negative or not finite`, { op, expected: '0 or more', found: v });
      }
      sum += v;
    }
    if (sum === 0) {
      throw new LmqError('argument/value', `importances ${from} to ${from + cols - 1} are all zero`, {
        op,
        hint: 'The layer was not reached when they were collected. Leave them out, or collect from text that reaches it.',
      });
    }
  }
}

/**
 * The same values as blocks, or null when the type cannot hold them exactly. It can when the type has an affine form (Q4_0, Q5_0 and Q8_0:
 * `BlockTraits.affine`) of these bits, every zero point is the middle, columns are grouped in order in multiples of 32, and every scale is
 * an fp16 number. fp16 scales are copied bit for bit.
 * @throws LmqError `argument/option` for an unknown type
 */
export function affineToBlocks(t: Affine, type: BlockType): Blocks | null {
  checkOneOf(type, 'block type', BLOCK_TYPE_NAMES, 'affineToBlocks');
  const { blockSize, blockBytes, affine } = BLOCK_TYPES[type];
  if (!affine) return null;
  const { bits, pack } = affine;
  const [rows, cols] = t.shape;
  if (t.bits !== bits || cols % blockSize !== 0 || t.groupSize % blockSize !== 0) return null;
  if (t.groupIndex?.some((g, c) => g !== Math.floor(c / t.groupSize))) return null;
  const scales = fp16Scales(t);
  if (!scales) return null;
  const middle = 2 ** (bits - 1);
  if ((zeroValues(t, 0, scales.length) as Float32Array).some((z) => z !== middle)) return null;

  const groups = scaleGrid(t.scales, t.shape)[1];
  const step = rowBytes(cols, bits);
  const data = new Uint8Array(rows * blockRowBytes(type, cols));
  const row = new Uint8Array(cols);
  for (let r = 0, o = 0; r < rows; r++) {
    const g0 = Math.floor(r / t.scales.block[0]) * groups;
    unpackInto(t.codes, r * step, 0, bits, cols, row, 0);
    for (let c = 0; c < cols; c += blockSize, o += blockBytes) {
      pack(scales[g0 + Math.floor(c / t.groupSize)], row, c, data, o);
    }
  }
  return { kind: 'blocks', shape: [rows, cols], type, data };
}

/**
 * The same values as symmetric affine codes in groups of the block size, fp16 scales copied bit for bit; null for a type without an affine
 * form (all but Q4_0, Q5_0 and Q8_0). Inverse of {@link affineToBlocks}.
 */
export function blocksToAffine(t: Blocks): Affine | null {
  const { blockSize, blockBytes, affine } = BLOCK_TYPES[t.type];
  if (!affine) return null;
  const { bits, unpack } = affine;
  const [rows, cols] = t.shape;
  const codes = new Uint8Array(rows * cols);
  const scales = new Uint16Array(codes.length / blockSize);
  for (let g = 0; g < scales.length; g++) scales[g] = unpack(t.data, g * blockBytes, codes, g * blockSize);
  return {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize: blockSize,
    codes: packRows(codes, bits, rows, cols),
    scales: { block: [1, blockSize], format: 'fp16', data: scales },
  };
}

/** fp16 bits of every scale, or null when one is not an fp16 number. */
function fp16Scales(t: Affine): Uint16Array | null {
  const { scales } = t;
  if (scales.format === 'fp16') return scales.data as Uint16Array;
  const values = scaleRows(scales, t.shape, 0, t.shape[0]);
  return values.every((s) => roundToFormat(s, 'fp16') === s) ? Uint16Array.from(values, floatToFp16) : null;
}
