/**
 * Pass-key recall (Mohtashami and Jaggi 2023, Landmark Attention, section 4.2): a number hidden in a long document must be given back at its
 * end. Scored teacher-forced: the answer is right when every one of its tokens is the most probable next token given the document before
 * it, which is what greedy decoding would write.
 * @module
 */
import type { Model } from '@lmq/model';
import { createPhase, LmqError, type LongCallOpts } from '@lmq/tensor';
import { rowArgmax } from './log-softmax.js';
import { readLogits } from './logits.js';

/** A document that ends with the answer. */
export interface PasskeyDocument {
  ids: readonly number[];
  answer_ids: readonly number[];
  /** Index in `ids` of the answer's first token. Default: the answer is followed by exactly one token, a full stop. */
  answerAt?: number;
  /** Where the key is hidden; not used for scoring. */
  key_at?: number;
}

export interface PasskeyResult {
  /** correct / total. */
  accuracy: number;
  /** Documents whose whole answer is right. */
  correct: number;
  total: number;
  /** Share of single answer tokens that are right. */
  tokenAccuracy: number;
}

/**
 * Share of documents whose answer the model gives.
 * @throws LmqError `argument/value` for no documents, an answer that is not in its place, or a document longer than the context
 */
export async function passkey(model: Model, documents: readonly PasskeyDocument[], opts: LongCallOpts = {}): Promise<PasskeyResult> {
  if (!documents.length) throw new LmqError('argument/value', 'there are no documents', { op: 'passkey' });
  const starts = documents.map((d, i) => answerStart(d, i)); // all checked before any work
  const step = createPhase('passkey', documents.length, 'documents', opts);
  let correct = 0;
  let tokens = 0;
  let rightTokens = 0;
  step(0);
  for (const [i, document] of documents.entries()) {
    const right = await answerHits(model, document, starts[i]!, opts.signal);
    tokens += document.answer_ids.length;
    rightTokens += right;
    if (right === document.answer_ids.length) correct++;
    step(i + 1);
  }
  return { accuracy: correct / documents.length, correct, total: documents.length, tokenAccuracy: rightTokens / tokens };
}

function answerStart({ ids, answer_ids: answer, answerAt }: PasskeyDocument, index: number): number {
  const start = answerAt ?? ids.length - answer.length - 1;
  const there = Number.isInteger(start) && start >= 1 && answer.length > 0 && answer.every((id, i) => ids[start + i] === id);
  if (there) return start;
  throw new LmqError('argument/value', `document ${index} does not hold its answer where it should`, {
    op: 'passkey',
    expected: `tokens ${answer.join(' ')} at ${start}`,
    found: ids.slice(Math.max(0, start), Math.max(0, start) + answer.length).join(' '),
    hint: 'Set answerAt to the index of the answer in ids.',
  });
}

/** Answer tokens that are the argmax of the position before them. The tokens after the answer cannot matter and are not read. */
async function answerHits(
  model: Model,
  { ids, answer_ids: answer }: PasskeyDocument,
  start: number,
  signal?: AbortSignal,
): Promise<number> {
  const { vocab } = model.architecture;
  const end = start + answer.length - 1;
  const s = model.backend.scope({ signal });
  try {
    const states = await model.hidden(s, ids.slice(0, end));
    const logits = await readLogits(model, s, states, start - 1, end);
    return answer.reduce((n, id, i) => n + (rowArgmax(logits, i * vocab, vocab) === id ? 1 : 0), 0);
  } finally {
    s.dispose();
  }
}
