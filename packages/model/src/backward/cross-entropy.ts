/**
 * The loss of a language model and its gradient: the mean of -log p(next token) over the positions of a sequence that have one, with
 * p = softmax(head · state), as Hugging Face's causal language models compute it. By the logits the gradient is (p - 1[next token]) / positions.
 * Logits are made a few rows at a time; softmax and loss in double.
 * @module
 */
import { type Handle, LmqError, type LoadedLinear, matrix, type Scope } from '@lmq/tensor';
import { linearInputGradient } from './linear.js';

/** Logits held at a time: 16 MiB, and at least 16 rows. */
const CHUNK_ELEMENTS = 2 ** 22;
const MIN_ROWS = 16;

export interface CrossEntropy {
  /** In nats. */
  loss: number;
  /** By the states, [tokens, hidden]; the last row, which predicts nothing, is 0. */
  dStates: Handle;
  /** By the head's weight, [vocab, hidden], when asked for. */
  dWeight?: Handle;
}

/**
 * @param states [tokens, hidden] after the final norm
 * @param ids the tokens themselves
 * @param opts `weight`: also the gradient of the head's weight. Default false
 * @returns handles in `s`
 * @throws LmqError `argument/value` for fewer than two tokens, `argument/shape`
 */
export async function crossEntropyBackward(
  s: Scope,
  head: LoadedLinear,
  states: Handle,
  ids: ArrayLike<number>,
  { weight = false }: { weight?: boolean } = {},
): Promise<CrossEntropy> {
  const op = 'crossEntropyBackward';
  if (ids.length !== states.rows) {
    throw new LmqError('argument/shape', 'there is not one token for each state', { op, expected: states.rows, found: ids.length });
  }
  if (ids.length < 2) {
    throw new LmqError('argument/value', 'the sequence predicts nothing', { op, expected: 'at least 2 tokens', found: ids.length });
  }
  const positions = ids.length - 1;
  const dStates = s.alloc(states.rows, states.cols);
  const dWeight = weight ? s.alloc(head.out, head.in) : undefined;
  const step = Math.max(MIN_ROWS, Math.floor(CHUNK_ELEMENTS / head.out));
  const exponentials = new Float64Array(head.out);
  let loss = 0;
  for (let from = 0; from < positions; from += step) {
    const to = Math.min(from + step, positions);
    const t = s.backend.scope();
    try {
      const x = t.view(states, [from, to]);
      const { data } = await t.read(t.linear(x, head));
      for (let r = 0; r < to - from; r++)
        loss += lossOf(data.subarray(r * head.out, (r + 1) * head.out), ids[from + r + 1]!, positions, exponentials);
      const dLogits = t.upload(matrix(data, to - from, head.out));
      linearInputGradient(t, dLogits, head, t.view(dStates, [from, to]));
      if (dWeight) t.gemm(dLogits, x, { transposeA: true, beta: 1, out: dWeight });
      await s.flush();
    } finally {
      t.dispose();
    }
  }
  return { loss, dStates, ...(dWeight && { dWeight }) };
}

/** The share of one row in the mean. Logits become their gradient; `exponentials` is room for as many numbers. */
function lossOf(logits: Float32Array, next: number, positions: number, exponentials: Float64Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < logits.length; c++) if (logits[c]! > max) max = logits[c]!;
  let total = 0;
  for (let c = 0; c < logits.length; c++) {
    const e = Math.exp(logits[c]! - max);
    exponentials[c] = e;
    total += e;
  }
  const wanted = logits[next]!;
  const share = 1 / (total * positions);
  for (let c = 0; c < logits.length; c++) logits[c] = exponentials[c]! * share;
  logits[next] = (exponentials[next]! / total - 1) / positions;
  return (Math.log(total) + max - wanted) / positions;
}
