/**
 * Weights to GGUF blocks: from float32 by the reference's scale choice, or from affine codes without changing a value.
 * @module
 */
import { type Affine, type Blocks, type BlockType, checkOneOf, contiguous, LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { BLOCK_TYPES } from './block-types/table.js';
import { roundToFormat } from './floats.js';
import { floatToFp16 } from './fp16.js';
import { zeroPointValues } from './layouts/affine.js';
import { blockRowBytes, firstBadBlock } from './layouts/blocks.js';
import { packRows, rowBytes, unpackInto } from './packing.js';
import { scaleGrid, scaleRows } from './scales.js';

/**
 * Quantizes `w` [out, in] to blocks, byte for byte as ggml's reference without an importance matrix.
 * @throws LmqError `argument/option` for an unknown type, `argument/shape` when `in` is not a multiple of the block size, `argument/value`
 * for NaN, infinity, or a magnitude whose scale or minimum overflows fp16
 */
export function encodeBlocks(type: BlockType, w: Tensor): Blocks {
  const op = 'encodeBlocks';
  checkOneOf(type, 'block type', Object.keys(BLOCK_TYPES), op);
  const [rows, cols] = matrixShape(w, op);
  const traits = BLOCK_TYPES[type];
  const { blockSize } = traits;
  if (cols % blockSize !== 0) {
    throw new LmqError('argument/shape', 'rows are not whole blocks', { op, expected: `a multiple of ${blockSize} columns`, found: cols });
  }
  const src = contiguous(w);
  for (let i = 0; i < src.length; i++) {
    if (!Number.isFinite(src[i])) {
      throw new LmqError('argument/value', `weight [${Math.floor(i / cols)}, ${i % cols}] is not finite`, { op, found: src[i] });
    }
  }
  const data = new Uint8Array(rows * blockRowBytes(type, cols));
  traits.encode(src, data);
  const bad = firstBadBlock(data, traits);
  if (bad >= 0) {
    throw new LmqError('argument/value', `the scale or minimum of block ${bad} overflows fp16`, { op, hint: 'Scale the weight down.' });
  }
  return { kind: 'blocks', shape: [rows, cols], type, data };
}

/**
 * The same values as blocks, or null when the type cannot hold them exactly. It can when the type has an affine form (Q4_0, Q5_0 and Q8_0:
 * `BlockTraits.affine`) of these bits, every zero point is the middle, columns are grouped in order in multiples of 32, and every scale is
 * an fp16 number. fp16 scales are copied bit for bit.
 * @throws LmqError `argument/option` for an unknown type
 */
export function affineToBlocks(t: Affine, type: BlockType): Blocks | null {
  checkOneOf(type, 'block type', Object.keys(BLOCK_TYPES), 'affineToBlocks');
  const { blockSize, blockBytes, affine } = BLOCK_TYPES[type];
  if (!affine) return null;
  const { bits, pack } = affine;
  const [rows, cols] = t.shape;
  if (t.bits !== bits || cols % blockSize !== 0 || t.groupSize % blockSize !== 0) return null;
  if (t.groupIndex?.some((g, c) => g !== Math.floor(c / t.groupSize))) return null;
  const scales = fp16Scales(t);
  if (!scales) return null;
  const middle = 2 ** (bits - 1);
  if (zeroPointValues(t, 0, scales.length).some((z) => z !== middle)) return null;

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
 * form (Q4_1, Q5_1, Q6_K). Inverse of {@link affineToBlocks}.
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
