/**
 * Which of llama.cpp's pre-tokenizers a `tokenizer.json` has. llama.cpp does not read regular expressions from files: it knows a fixed list
 * by name (src/llama-vocab.cpp, `llm_tokenizer_bpe`), so the name must be that of a list entry that splits text in the same way.
 *
 * Decided by the structure of `pre_tokenizer`, compared as text; an expression from a model file is never run.
 * @module
 */
import { type Fields, field, fieldsOf, unsupported } from './_object.js';

/** What llama.cpp names, and whether it then looks a whole word up before merging (`ignore_merges`). */
interface PreTokenizer {
  name: string;
  ignoreMerges: boolean;
}

const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const TEKKEN =
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/**
 * Structure → name. `digits`: every \p{N} stands alone; `bytes+regex`: GPT-2's expression, then bytes as characters; `bytes`: the latter
 * only. smollm, starcoder, refact and command-r share their expressions; smollm and command-r also leave decoded text alone, while the
 * other two make llama.cpp remove spaces before punctuation.
 */
const KNOWN = new Map<string, readonly PreTokenizer[]>([
  ['digits,bytes+regex', [{ name: 'smollm', ignoreMerges: false }]],
  ['bytes+regex', [{ name: 'gpt-2', ignoreMerges: false }]],
  [
    `split:${LLAMA3},bytes`,
    [
      { name: 'llama-bpe', ignoreMerges: true },
      { name: 'smaug-bpe', ignoreMerges: false },
    ],
  ],
  [`split:${QWEN2},bytes`, [{ name: 'qwen2', ignoreMerges: false }]],
  [`split:${TEKKEN},bytes`, [{ name: 'tekken', ignoreMerges: true }]],
]);

/** One step of a pre-tokenizer as a word of the structure; `?` and its type for one that llama.cpp has no counterpart of. */
function describe(step: unknown): string {
  const f = fieldsOf(step) ?? {};
  const type = field(f, 'type');
  if (type === 'Sequence') {
    const steps = field(f, 'pretokenizers');
    return Array.isArray(steps) ? steps.map(describe).join(',') : '?Sequence';
  }
  if (type === 'Digits') return field(f, 'individual_digits') === true ? 'digits' : '?Digits';
  if (type === 'ByteLevel') {
    if (field(f, 'add_prefix_space') === true) return '?ByteLevel with add_prefix_space';
    return field(f, 'use_regex') === false ? 'bytes' : 'bytes+regex';
  }
  if (type === 'Split') {
    const regex = field(fieldsOf(field(f, 'pattern')) ?? {}, 'Regex');
    const plain = field(f, 'behavior') === 'Isolated' && field(f, 'invert') !== true;
    return plain && typeof regex === 'string' ? `split:${regex}` : '?Split';
  }
  return `?${String(type)}`;
}

/**
 * The value of `tokenizer.ggml.pre`.
 * @throws LmqError `tokenizer/unsupported` when llama.cpp has no pre-tokenizer that splits alike
 */
export function preTokenizerName(tokenizer: Fields): string {
  const structure = describe(field(tokenizer, 'pre_tokenizer'));
  const ignoreMerges = field(fieldsOf(field(tokenizer, 'model')) ?? {}, 'ignore_merges') === true;
  const known = KNOWN.get(structure);
  const match = known?.find((p) => p.ignoreMerges === ignoreMerges);
  if (match) return match.name;
  const what = known
    ? 'llama.cpp has this pre-tokenizer only with the other value of ignore_merges'
    : 'llama.cpp has no pre-tokenizer like this one';
  return unsupported(
    'tokenizer/unsupported',
    what,
    known ? `ignore_merges ${ignoreMerges}` : structure,
    'Export to safetensors or to the lmq format instead.',
  );
}
