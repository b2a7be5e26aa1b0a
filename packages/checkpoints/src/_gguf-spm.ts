/**
 * A SentencePiece-style BPE of a `tokenizer.json` (▁ for space, byte fallback, no pre-tokenizer) as GGUF's "llama" vocabulary of scores.
 *
 * The two merge differently: Hugging Face joins *pairs* by rank, llama.cpp joins any two neighbours whose concatenation is a token, best
 * score first. They agree exactly when every token is reached by merging its own characters: then, whenever two neighbours spell a token,
 * the pair is the last merge of that token's own derivation, and `score = -rank` of that merge orders both alike. That condition is checked
 * here for every token, and a vocabulary that breaks it is refused.
 * @module
 */
import { TOKEN, type Vocabulary } from './_gguf-bpe.js';
import { type Fields, field, fieldsOf, textField, unsupported } from './_object.js';

const HINT = 'Export to safetensors or to the lmq format instead.';
const SPACE = '▁';

export interface SpmVocabulary {
  scores: Float32Array;
  addSpacePrefix: boolean;
}

/** True for the tokenizer.json of a SentencePiece-style BPE. */
export function isSpm(tokenizer: Fields): boolean {
  return field(fieldsOf(field(tokenizer, 'model')) ?? {}, 'byte_fallback') === true;
}

/** Whether a space is put before the text; throws for normalizers other than SentencePiece's. */
function spacePrefix(tokenizer: Fields): boolean {
  const list = (value: unknown, key: string): Fields[] => {
    const f = fieldsOf(value);
    if (!f) return [];
    const inner = field(f, key);
    return field(f, 'type') === 'Sequence' && Array.isArray(inner) ? inner.map((x) => fieldsOf(x) ?? {}) : [f];
  };
  const normalizers = list(field(tokenizer, 'normalizer'), 'normalizers');
  const steps = list(field(tokenizer, 'pre_tokenizer'), 'pretokenizers');
  const isReplace = (f: Fields) =>
    field(f, 'type') === 'Replace' && textField(fieldsOf(field(f, 'pattern')) ?? {}, 'String') === ' ' && textField(f, 'content') === SPACE;
  const isPrepend = (f: Fields) => field(f, 'type') === 'Prepend' && textField(f, 'prepend') === SPACE;
  const [first, second] = normalizers;
  // Gemma cuts behind spaces, of which its normalizer has left none
  const isIdle = (f: Fields) => field(f, 'type') === 'Split' && textField(fieldsOf(field(f, 'pattern')) ?? {}, 'String') === ' ';
  if (normalizers.some(isReplace) && steps.every(isIdle)) steps.length = 0;
  if (steps.length === 0 && normalizers.length === 1 && isReplace(first!)) return false;
  if (steps.length === 0 && normalizers.length === 2 && isPrepend(first!) && isReplace(second!)) return true;
  const metaspace = steps[0];
  if (normalizers.length === 0 && steps.length === 1 && field(metaspace!, 'type') === 'Metaspace' && field(metaspace!, 'split') === false) {
    // Metaspace adds no second space to text that begins with one; SentencePiece and llama.cpp do
    return textField(metaspace!, 'prepend_scheme') !== 'never';
  }
  const types = [...normalizers, ...steps].map((f) => String(field(f, 'type'))).join(', ') || 'none';
  return unsupported('tokenizer/unsupported', 'the text is prepared in a way that GGUF cannot say', types, HINT);
}

/** Merges the characters of one token as Hugging Face does. Returns the rank of the last merge, or -1 when it does not end as one piece. */
function lastMerge(token: string, ids: ReadonlyMap<string, number>, ranks: ReadonlyMap<string, ReadonlyMap<string, number>>): number {
  const parts = Array.from(token);
  if (parts.some((p) => !ids.has(p))) return -1;
  let last = -1;
  while (parts.length > 1) {
    let best = Number.POSITIVE_INFINITY;
    let at = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(parts[i]!)?.get(parts[i + 1]!);
      if (rank !== undefined && rank < best) {
        best = rank;
        at = i;
      }
    }
    if (at < 0) return -1;
    parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    last = best;
  }
  return last;
}

/**
 * Scores for a SentencePiece-style vocabulary; marks byte and unknown tokens in `vocabulary.types`.
 * @throws LmqError `tokenizer/unsupported` when llama.cpp would tokenize differently, saying why
 */
export function spmVocabulary(tokenizer: Fields, vocabulary: Vocabulary): SpmVocabulary {
  const { tokens, types, ids, merges } = vocabulary;
  const addSpacePrefix = spacePrefix(tokenizer);
  const unknown = textField(fieldsOf(field(tokenizer, 'model')) ?? {}, 'unk_token');
  const unknownId = unknown === undefined ? undefined : ids.get(unknown);
  if (unknownId === undefined) unsupported('tokenizer/unsupported', 'the vocabulary has no unknown token', unknown ?? 'none', HINT);
  types[unknownId as number] = TOKEN.unknown;
  for (let b = 0; b < 256; b++) {
    const token = `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`;
    const id = ids.get(token);
    if (id === undefined)
      return unsupported(
        'tokenizer/unsupported',
        'the vocabulary lacks byte tokens, which GGUF readers need for characters outside it',
        `no ${token}`,
        HINT,
      );
    types[id] = TOKEN.byte;
  }
  const ranks = new Map<string, Map<string, number>>();
  merges.forEach(([left, right], rank) => {
    const of = ranks.get(left) ?? new Map<string, number>();
    if (!of.has(right)) of.set(right, rank);
    ranks.set(left, of);
  });
  const scores = new Float32Array(tokens.length);
  for (let id = 0; id < tokens.length; id++) {
    const token = tokens[id]!;
    if (types[id] === TOKEN.user) scores[id] = -1000;
    else if (types[id] === TOKEN.unused) scores[id] = -10_000;
    if (types[id] !== TOKEN.normal) continue;
    const single = Array.from(token).length <= 1;
    const rank = single ? merges.length : lastMerge(token, ids, ranks);
    if (rank < 0)
      return unsupported(
        'tokenizer/unsupported',
        'a token is not reached by merging its characters, so scores would split text differently',
        token,
        HINT,
      );
    scores[id] = -rank;
  }
  return { scores, addSpacePrefix };
}
