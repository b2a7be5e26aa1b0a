/**
 * Reads one weight and makes sure that it is the one the architecture means: there, of the right shape, and finite.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { countBadBlocks, decode } from '@lmq/formats';
import { type CompressedTensor, type FloatData, type FloatFormat, LmqError, type Matrix, matrix } from '@lmq/tensor';

/**
 * Reads a tensor whose stored shape must be `shape`; the result is 2-D with leading axes merged.
 * @throws LmqError `model/missing`, `model/config` for another shape, `argument/value` for NaN or infinity, `file/*` when damaged
 */
export async function readWeight(checkpoint: Checkpoint, tensor: string, shape: readonly number[], op: string): Promise<CompressedTensor> {
  const info = checkpoint.tensors.get(tensor);
  if (!info) {
    throw new LmqError('model/missing', 'the checkpoint lacks a tensor', {
      op,
      tensor,
      hint: 'Check that every file of the model is there.',
    });
  }
  const mismatch = (found: readonly number[]) =>
    new LmqError('model/config', 'the tensor does not have the shape that the configuration implies', {
      op,
      file: info.file,
      tensor,
      expected: `[${shape.join(', ')}]`,
      found: `[${found.join(', ')}]`,
      hint: 'The configuration and the weights are not of the same model.',
    });
  if (info.shape.length !== shape.length || info.shape.some((n, i) => n !== shape[i])) throw mismatch(info.shape);
  const t = await checkpoint.read(tensor);
  const cols = shape[shape.length - 1]!;
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  if (t.shape[0] !== rows || t.shape[1] !== cols) throw mismatch(t.shape);
  const bad = countNonFinite(t);
  if (bad > 0) {
    throw new LmqError('argument/value', `the tensor holds ${bad} values that are NaN or infinite`, {
      op,
      file: info.file,
      tensor,
      hint: 'The file is damaged, or its training diverged. Download it again or use another checkpoint.',
    });
  }
  return t;
}

/** Reads a vector of `n` as a float32 matrix [1, n]; norms and biases. */
export async function readVector(checkpoint: Checkpoint, tensor: string, n: number, op: string): Promise<Matrix> {
  return decode(await readWeight(checkpoint, tensor, [n], op));
}

/** A norm's weight as a matrix [1, n] to multiply with. 1 + w is rounded once to float32, as Hugging Face does. */
export async function readNorm(checkpoint: Checkpoint, tensor: string, n: number, plusOne: boolean, op: string): Promise<Matrix> {
  const weight = await readVector(checkpoint, tensor, n, op);
  if (!plusOne) return weight;
  return matrix(
    weight.data.map((w) => 1 + w),
    1,
    n,
  );
}

/** Numbers in a weight that are NaN or infinite, among the floats it stores: values, scales, tables. */
export function countNonFinite(t: CompressedTensor): number {
  switch (t.kind) {
    case 'dense':
      return countFloats(t.format, t.data);
    case 'affine':
      return countFloats(t.scales.format, t.scales.data);
    case 'lut':
      return countFloats('fp32', t.tables.data) + (t.scales ? countFloats(t.scales.format, t.scales.data) : 0);
    case 'blocks':
      return countBadBlocks(t);
    case 'sum':
      return t.terms.reduce((n, term) => n + countNonFinite(term), 0);
    case 'parts':
      return t.parts.reduce((n, part) => n + countNonFinite(part.base), 0);
    case 'rescaled':
      return countFloats('fp32', t.inputScale) + countNonFinite(t.base);
  }
}

/** A float is NaN or infinite when its exponent bits are all ones. */
function countFloats(format: FloatFormat, data: FloatData): number {
  let count = 0;
  if (data instanceof Float32Array) {
    for (let i = 0; i < data.length; i++) if (data[i]! - data[i]! !== 0) count++;
    return count;
  }
  const exponent = format === 'fp16' ? 0x7c00 : 0x7f80;
  for (let i = 0; i < data.length; i++) if ((data[i]! & exponent) === exponent) count++;
  return count;
}
