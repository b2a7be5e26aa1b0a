/**
 * The 4-bit weights of bitsandbytes: codes of a table of 16 and a scale per run of weights, with or without double quantization of the
 * scales, and the order of its bytes.
 *
 * Double quantization: the scales less their mean, quantized block-wise to the signed dynamic map in runs of 256. Source: Dettmers et al.,
 * QLoRA (arXiv 2305.14314), §3; bitsandbytes functional.py.
 * @module
 */
import { checkOneOf, contiguous, LmqError, type Lut, matrix, matrixShape, type Scales, type Tensor } from '@lmq/tensor';
import { expectFiniteWeights } from './_finite.js';
import { quantizeBlockwise } from './blockwise.js';
import { packRows } from './packing.js';
import { AF4 } from './tables/af4.js';
import { dynamicMap8 } from './tables/dynamic8.js';
import { BITSANDBYTES_FP4 } from './tables/fp4.js';
import { NF4 } from './tables/nf4.js';

const TABLES = { nf4: NF4, fp4: BITSANDBYTES_FP4, af4: AF4 };
/** Scales that share a scale. */
const NESTED_BLOCK = 256;

export interface EncodeTable4Opts {
  /** Weights per scale, counted in row-major order. Default 64. */
  blockSize?: number;
  /** Whether to quantize the scales. Default false. */
  doubleQuant?: boolean;
}

/**
 * Quantizes `w` [out, in] to a table of 16. Codes and scales are those of bitsandbytes' portable code (see `quantizeBlockwise`). The mean of
 * the scales is rounded once, from a sum in double; PyTorch's own depends on the machine, and a last bit of it can move a code.
 * @throws LmqError `argument/option` for an unknown table or a block size that is no positive integer, `argument/value` for NaN and infinity
 */
export function encodeTable4(table: keyof typeof TABLES, w: Tensor, opts: EncodeTable4Opts = {}): Lut {
  const op = 'encodeTable4';
  const values = TABLES[checkOneOf(table, 'table', Object.keys(TABLES) as (keyof typeof TABLES)[], op)];
  const { blockSize = 64, doubleQuant = false } = opts;
  const [rows, cols] = matrixShape(w, op);
  const weights = Float32Array.from(contiguous(w));
  expectFiniteWeights(weights, cols, op);
  const { codes, absmax } = quantizeBlockwise(weights, values, blockSize);
  const block = { flat: Math.min(blockSize, rows * cols) };
  return {
    kind: 'lut',
    shape: [rows, cols],
    bits: 4,
    codes: packRows(codes, 4, rows, cols),
    tables: matrix(Float32Array.from(values), 1, 16),
    tablePer: 'tensor',
    scales: doubleQuant ? { block, ...quantizeScales(absmax) } : { block, format: 'fp32', data: absmax },
  };
}

function quantizeScales(absmax: Float32Array): Omit<Scales, 'block'> {
  const offset = Math.fround(absmax.reduce((sum, x) => sum + x, 0) / absmax.length);
  const table = dynamicMap8(true);
  const inner = quantizeBlockwise(
    absmax.map((x) => x - offset),
    table,
    NESTED_BLOCK,
  );
  const flat = Math.min(NESTED_BLOCK, absmax.length);
  return {
    format: 'table8',
    data: inner.codes,
    table,
    outer: { scales: { block: { flat }, format: 'fp32', data: inner.absmax }, offset },
  };
}

/** Codes, one per byte in row-major order, as bitsandbytes packs them: the first of a pair in the upper half, a missing last one 0. */
export function packBitsandbytes4(codes: Uint8Array): Uint8Array {
  const bad = codes.findIndex((code) => code > 15);
  if (bad >= 0) {
    throw new LmqError('argument/value', `code ${bad} needs more than 4 bits`, {
      op: 'packBitsandbytes4',
      expected: '0 … 15',
      found: codes[bad],
    });
  }
  const packed = new Uint8Array(Math.ceil(codes.length / 2));
  for (let i = 0; i < packed.length; i++) packed[i] = (codes[2 * i]! << 4) | (codes[2 * i + 1] ?? 0);
  return packed;
}

/**
 * The first `count` codes of bytes that bitsandbytes packed, one per byte.
 * @throws LmqError `argument/shape` when there are more or fewer bytes than that takes
 */
export function unpackBitsandbytes4(packed: Uint8Array, count: number): Uint8Array {
  if (packed.length !== Math.ceil(count / 2)) {
    throw new LmqError('argument/shape', 'packed has the wrong length', {
      op: 'unpackBitsandbytes4',
      expected: Math.ceil(count / 2),
      found: packed.length,
    });
  }
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) codes[i] = i & 1 ? packed[i >>> 1]! & 15 : packed[i >>> 1]! >>> 4;
  return codes;
}
