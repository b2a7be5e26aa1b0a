/**
 * How GPTQ checkpoints pack codes of 2, 3, 4 and 8 bits into 32-bit words: `qweight` [in * bits / 32, out] along the input, `qzeros`
 * [groups, out * bits / 32] along the output; one bit stream, so that 3-bit codes straddle words. Version 1 stores zero points less one.
 * Source: AutoGPTQ qlinear_cuda_old.py; GPTQModel utils/model.py.
 * @module
 */
import { checkOneOf, LmqError } from '@lmq/tensor';
import { expectMultiple, expectSize, packWords, transpose, unpackWords } from './_words.js';

/** Of zero points: `v1` ("gptq") stores z - 1, `v2` ("gptq_v2") stores z. */
export type GptqVersion = 'v1' | 'v2';

/**
 * `qweight` from codes [out, in], one per byte.
 * @throws LmqError `argument/option` for other bits, `argument/shape` unless `in` is a multiple of 32 and the codes fill the matrix,
 * `argument/value` for a code that needs more bits
 */
export function packGptqWeight(codes: Uint8Array, bits: number, out: number, inputs: number): Int32Array {
  check(bits, inputs, 'in', 'packGptqWeight');
  return transpose(packWords(codes, bits, out, inputs), out, (inputs * bits) / 32);
}

/**
 * Codes [out, in], one per byte, from `qweight`.
 * @throws LmqError as {@link packGptqWeight}
 */
export function unpackGptqWeight(words: Int32Array, bits: number, out: number, inputs: number): Uint8Array {
  const op = 'unpackGptqWeight';
  check(bits, inputs, 'in', op);
  const perRow = (inputs * bits) / 32;
  expectSize(words.length, perRow * out, 'qweight', op);
  return unpackWords(transpose(words, perRow, out), bits, out, inputs);
}

/**
 * `qzeros` from zero points [out, groups], one per byte.
 * @throws LmqError as {@link packGptqWeight}, for `out` in place of `in`; `argument/value` for a zero point of 0 in version 1
 */
export function packGptqZeros(zeros: Uint8Array, bits: number, out: number, groups: number, version: GptqVersion): Int32Array {
  const op = 'packGptqZeros';
  check(bits, out, 'out', op);
  checkOneOf(version, 'version', ['v1', 'v2'], op);
  expectSize(zeros.length, out * groups, 'zeros', op);
  const less = version === 'v1' ? 1 : 0;
  const at = less ? zeros.indexOf(0) : -1;
  if (at >= 0) {
    throw new LmqError('argument/value', `zero point ${at} is 0, which version 1 cannot hold`, {
      op,
      expected: 'at least 1',
      hint: 'Use v2.',
    });
  }
  return packWords(
    transpose(zeros, out, groups).map((z) => z - less),
    bits,
    groups,
    out,
  );
}

/**
 * Zero points [out, groups], one per byte, from `qzeros`. A lane of ones of version 1 is 0: what its writers make of that zero point, if
 * they do not spoil the lane beside it.
 * @throws LmqError as {@link packGptqWeight}, for `out` in place of `in`
 */
export function unpackGptqZeros(words: Int32Array, bits: number, out: number, groups: number, version: GptqVersion): Uint8Array {
  const op = 'unpackGptqZeros';
  check(bits, out, 'out', op);
  checkOneOf(version, 'version', ['v1', 'v2'], op);
  expectSize(words.length, (groups * out * bits) / 32, 'qzeros', op);
  const less = version === 'v1' ? 1 : 0;
  const mask = 2 ** bits - 1;
  return transpose(unpackWords(words, bits, groups, out), groups, out).map((z) => (z + less) & mask);
}

function check(bits: number, n: number, what: string, op: string): void {
  checkOneOf(String(bits), 'bits', ['2', '3', '4', '8'], op);
  expectMultiple(n, 32, what, op);
}
