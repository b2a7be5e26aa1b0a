/**
 * Affine weights as ONNX Runtime's operator `com.microsoft.MatMulNBits` takes them, and back: codes [out, blocks, blockSize * bits / 8] with
 * the lowest bits first, scales [out, blocks], zero points [out, ceil(blocks * bits / 8)] packed like codes; w = (code - zero) * scale. A block
 * is a power of two of columns, at least 16, and the last one of a row is filled up with zeros, which no input meets. Source: the operator's schema in ONNX Runtime 1.30.
 * @module
 */
import { type Affine, type FloatData, type FloatFormat, LmqError } from '@lmq/tensor';
import { zeroBetweenCodes, zeroPointValues } from './layouts/affine.js';
import { packRows, packStream, rowBytes, unpackRows } from './packing.js';
import { scaleValues } from './scales.js';
import { validate } from './verbs.js';

/** Widths that the runtime's builds for servers and for browsers both multiply with. */
export const MATMUL_NBITS = [4, 8] as const;

/** The runtime has kernels for blocks of 16, 32, 64, 128 and 256 columns. */
const MIN_BLOCK = 16;
const MAX_BLOCK = 256;

/** The inputs and attributes of one `MatMulNBits` but A. */
export interface MatMulNBits {
  /** `[N, K]`: outputs, inputs. */
  shape: [rows: number, cols: number];
  bits: number;
  /** Columns per scale. */
  blockSize: number;
  /** Input B. */
  codes: Uint8Array;
  scaleFormat: FloatFormat;
  scales: FloatData;
  /** Absent: every zero point is `2 ** (bits - 1)`. */
  zeroPoints?: Uint8Array;
}

/**
 * Columns per block for groups of `groupSize` columns: the largest that keeps a block in one group, at most 256; 0 when there is none. A
 * group of several blocks has its scale repeated.
 */
export function matMulBlockSize(groupSize: number, inputs: number): number {
  const divisor = Math.min(groupSize & -groupSize, MAX_BLOCK); // the largest power of two that divides it
  if (divisor >= MIN_BLOCK) return divisor;
  return groupSize >= inputs ? MIN_BLOCK : 0; // one group: its blocks need not end with it
}

/**
 * The same weights, exactly: codes are moved, scales become float32. Zero points are left out when all are in the middle.
 * @throws LmqError `export/unsupported` for bits other than 4 and 8, act-order, scales of several rows, zero points between codes, and
 * groups that no power of two from 16 columns on divides; `argument/*` for a tensor that is not valid
 */
export function affineToMatMulNBits(t: Affine): MatMulNBits {
  validate(t);
  const { bits, groupSize, groupIndex, scales } = t;
  const [out, inputs] = t.shape;
  const refuse = (what: string, expected: unknown, found: unknown, hint: string): never => {
    throw new LmqError('export/unsupported', what, { op: 'affineToMatMulNBits', expected, found, hint });
  };
  if (!MATMUL_NBITS.some((n) => n === bits))
    refuse('codes of this width cannot be multiplied', '4 or 8 bits', bits, `Use ${bits < 4 ? 4 : 8} bits.`);
  if (groupIndex) refuse('groups in act-order cannot be stored', 'groups of neighbouring columns', 'act-order', 'Use static groups.');
  if (scales.block[0] !== 1) refuse('a scale for several rows cannot be stored', '1 row', scales.block[0], 'Use a scale per row.');
  const blockSize = matMulBlockSize(groupSize, inputs);
  if (blockSize === 0) refuse('the groups are not whole blocks', `a multiple of ${MIN_BLOCK} columns`, groupSize, 'Use groups of 32.');
  const between = zeroBetweenCodes(t);
  if (between !== undefined)
    refuse('a zero point between codes cannot be stored', `integers 0 … ${2 ** bits - 1}`, between, 'Use integer zero points.');
  const groups = Math.ceil(inputs / groupSize);
  const blocks = Math.ceil(inputs / blockSize);
  const perGroup = scaleValues(scales);
  const zeros = zeroPointValues(t, 0, out * groups);
  const perBlock = new Float32Array(out * blocks);
  const blockZeros = new Uint8Array(out * blocks);
  for (let r = 0; r < out; r++) {
    for (let b = 0; b < blocks; b++) {
      const g = r * groups + Math.floor((b * blockSize) / groupSize);
      perBlock[r * blocks + b] = perGroup[g]!;
      blockZeros[r * blocks + b] = zeros[g]!;
    }
  }
  const middle = zeros.every((z) => z === 2 ** (bits - 1));
  return {
    shape: [out, inputs],
    bits,
    blockSize,
    codes: resized(t.codes, out, rowBytes(inputs, bits), rowBytes(blocks * blockSize, bits)),
    scaleFormat: 'fp32',
    scales: perBlock,
    ...(!middle && { zeroPoints: packRows(blockZeros, bits, out, blocks) }),
  };
}

/** Rows of `from` bytes as rows of `to` bytes: cut off, or filled up with zeros. */
function resized(codes: Uint8Array, rows: number, from: number, to: number): Uint8Array {
  if (from === to) return codes;
  const out = new Uint8Array(rows * to);
  for (let r = 0; r < rows; r++) out.set(codes.subarray(r * from, r * from + Math.min(from, to)), r * to);
  return out;
}

/**
 * An operator's constants as an affine weight; what fills up the last block is dropped.
 * @throws LmqError `argument/*` for sizes that do not fit each other
 */
export function matMulNBitsToAffine({ shape, bits, blockSize, codes, scaleFormat, scales, zeroPoints }: MatMulNBits): Affine {
  const [out, inputs] = shape;
  const blocks = Math.ceil(inputs / blockSize);
  const wide = rowBytes(blocks * blockSize, bits);
  if (codes.length !== out * wide) {
    throw new LmqError('argument/shape', 'codes do not fill the blocks', {
      op: 'matMulNBitsToAffine',
      expected: out * wide,
      found: codes.length,
    });
  }
  const groupSize = Math.min(blockSize, inputs);
  const t: Affine = {
    kind: 'affine',
    shape: [out, inputs],
    bits,
    groupSize,
    codes: resized(codes, out, wide, rowBytes(inputs, bits)),
    scales: { block: [1, groupSize], format: scaleFormat, data: scales },
    ...(zeroPoints && { zeroPoints: packStream(unpackRows(zeroPoints, bits, out, blocks), bits) }),
  };
  validate(t);
  return t;
}
