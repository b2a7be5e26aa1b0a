/**
 * Reads one weight and makes sure that it is the one the architecture means: there, of the right shape, and finite unless the checkpoint
 * was told otherwise (`guardNonFinite` of @lmq/checkpoints).
 * @module
 */
import { type Checkpoint, nonFinite } from '@lmq/checkpoints';
import { countNonFinite, decode } from '@lmq/formats';
import { type CompressedTensor, LmqError, type Matrix, matrix } from '@lmq/tensor';

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
  if (checkpoint.nonFinite === undefined) {
    const bad = countNonFinite(t);
    if (bad > 0) throw nonFinite(tensor, info.file, bad, op);
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
