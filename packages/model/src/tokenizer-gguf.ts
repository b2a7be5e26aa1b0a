/**
 * Tokenizers as GGUF stores them, turned into the `tokenizer.json` form: `gpt2` (byte-level BPE, merges given) and `llama`
 * (SentencePiece BPE, merges recovered from the scores). Key names and token types: GGUF specification, ggml docs/gguf.md.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { createFields } from './_fields.js';
import type { Tokenizer } from './api.js';
import { wrapTokenizer } from './tokenizer.js';

type Specials = Parameters<typeof wrapTokenizer>[1];

const OP = 'tokenizerFromGguf';
/** Names of special tokens in chat templates, and their keys. */
const SPECIAL_TOKENS = [
  ['bos_token', 'bos_token_id'],
  ['eos_token', 'eos_token_id'],
  ['unk_token', 'unknown_token_id'],
  ['pad_token', 'padding_token_id'],
] as const;
const CONTROL = 3;
const USER_DEFINED = 4;
const NORMAL = 1;

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const DIGITS = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, BYTE_LEVEL] };
/** A regular expression of the vocabulary's authors, then bytes as characters. */
const split = (Regex: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
    { ...BYTE_LEVEL, use_regex: false },
  ],
});
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const QWEN2 = split(`${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${REST}`);
const CAPITALS = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const SMALL = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const BEFORE = '[^\\r\\n\\p{L}\\p{N}]?';
const TEKKEN = split(
  `${BEFORE}${CAPITALS}*${SMALL}+|${BEFORE}${CAPITALS}+${SMALL}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
);
const LLAMA3 = split(`${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${REST}`);

interface Cut {
  preTokenizer: object;
  /** A word that is a token is taken as it is, whatever the merges say. */
  ignoreMerges: boolean;
}

/** How text is cut before merging, by `tokenizer.ggml.pre`. */
const CUTS: ReadonlyMap<unknown, Cut> = new Map<unknown, Cut>([
  ['gpt-2', { preTokenizer: BYTE_LEVEL, ignoreMerges: false }],
  ...['smollm', 'starcoder', 'refact', 'codeshell', 'command-r'].map(
    (name) => [name, { preTokenizer: DIGITS, ignoreMerges: false }] as const,
  ),
  ...['llama-bpe', 'llama3', 'llama-v3'].map((name) => [name, { preTokenizer: LLAMA3, ignoreMerges: true }] as const),
  ['smaug-bpe', { preTokenizer: LLAMA3, ignoreMerges: false }],
  ...['qwen2', 'deepseek-r1-qwen'].map((name) => [name, { preTokenizer: QWEN2, ignoreMerges: false }] as const),
  ['tekken', { preTokenizer: TEKKEN, ignoreMerges: true }],
]);

/** What a GGUF file says of its tokenizer: a `tokenizer.json` and the special tokens. */
function readGguf(metadata: ReadonlyMap<string, unknown>): { json: object; specials: Specials } {
  const f = createFields((key) => metadata.get(`tokenizer.ggml.${key}`), OP);
  const tokens = list(f.get('tokens'), 'tokens', 'string');
  const types = f.get('token_type') === undefined ? tokens.map(() => NORMAL) : list(f.get('token_type'), 'token_type', 'number');
  if (types.length !== tokens.length) throw misfit('token_type does not fit tokens', tokens.length, types.length);
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id])); // defines own properties, `__proto__` too
  if (Object.keys(vocab).length !== tokens.length)
    throw misfit('the vocabulary names a token twice', tokens.length, Object.keys(vocab).length);

  // llama.cpp lets the added tokens of models so named take the white space behind them, but for three; GGUF has no other way to say it
  const eating = /phi-?3/i.test(String(metadata.get('general.name') ?? ''));
  const added = tokens.flatMap((content, id) => {
    if (types[id] !== CONTROL && types[id] !== USER_DEFINED) return [];
    const rstrip = eating && !['<unk>', '<s>', '<|endoftext|>'].includes(content);
    return [{ id, content, special: types[id] === CONTROL, normalized: false, rstrip }];
  });
  const id = (key: string): number | undefined => (f.get(key) === undefined ? undefined : f.integer(key, 0, tokens.length - 1));
  const model = f.get('model');
  const json = () => {
    if (model === 'gpt2') return byteLevel(vocab, list(f.get('merges'), 'merges', 'string'), f.get('pre'));
    if (model === 'llama') {
      const scores = list(f.get('scores'), 'scores', 'number');
      if (scores.length !== tokens.length) throw misfit('scores does not fit tokens', tokens.length, scores.length);
      const unknown = tokens[id('unknown_token_id') ?? 0]!;
      return sentencePiece(vocab, recoverMerges(tokens, scores, types), unknown, f.flag('add_space_prefix', true));
    }
    throw new LmqError('tokenizer/unsupported', 'tokenizer.ggml.model is not supported', {
      op: OP,
      expected: 'gpt2, llama',
      found: model ?? 'nothing',
    });
  };
  const ends = [id('eos_token_id'), id('eot_token_id')].filter((end) => end !== undefined);
  const texts: Record<string, string> = {};
  for (const [name, key] of SPECIAL_TOKENS) {
    const at = id(key);
    if (at !== undefined) texts[name] = tokens[at]!;
  }
  const specials = {
    bos: id('bos_token_id'),
    addBos: metadata.get('tokenizer.ggml.add_bos_token') !== false,
    eos: [...new Set(ends)],
    template: metadata.get('tokenizer.chat_template'),
    texts,
  };
  return { json: { ...json(), added_tokens: added }, specials };
}

/**
 * Makes a tokenizer of a GGUF file's key-values.
 * @throws LmqError `tokenizer/unsupported` for other kinds of tokenizer, or lists that do not fit together
 */
export function tokenizerFromGguf(metadata: ReadonlyMap<string, unknown>): Tokenizer {
  const { json, specials } = readGguf(metadata);
  return wrapTokenizer(json, specials);
}

/**
 * The same tokenizer as the files of a Hugging Face folder.
 * @returns contents of tokenizer.json, tokenizer_config.json and generation_config.json
 * @throws LmqError as {@link tokenizerFromGguf}
 */
export function tokenizerFilesFromGguf(metadata: ReadonlyMap<string, unknown>): Record<string, object> {
  const { json, specials } = readGguf(metadata);
  const { added_tokens, ...rest } = json as { added_tokens: object[] };
  const plain = { single_word: false, lstrip: false, rstrip: false };
  const { bos, addBos, eos, template, texts } = specials;
  const begin = bos !== undefined && addBos ? texts?.bos_token : undefined;
  const special = (type: 'A' | 'B') => [
    { SpecialToken: { id: begin, type_id: type === 'A' ? 0 : 1 } },
    { Sequence: { id: type, type_id: type === 'A' ? 0 : 1 } },
  ];
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added_tokens.map((t) => ({ ...t, ...plain })),
      normalizer: null,
      // the begin token is what a model wants before a text: tokenizers of Hugging Face add it themselves
      post_processor:
        begin === undefined
          ? null
          : {
              type: 'TemplateProcessing',
              single: special('A'),
              pair: [...special('A'), ...special('B')],
              special_tokens: { [begin]: { id: begin, ids: [bos], tokens: [begin] } },
            },
      pre_tokenizer: null,
      ...rest,
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      ...texts,
      add_bos_token: begin !== undefined,
      clean_up_tokenization_spaces: false,
      ...(template !== undefined && { chat_template: template }),
    },
    'generation_config.json': {
      ...(bos !== undefined && { bos_token_id: bos }),
      ...(eos.length && { eos_token_id: eos.length > 1 ? eos : eos[0] }),
    },
  };
}

function byteLevel(vocab: object, merges: string[], pre: unknown): object {
  const cut = CUTS.get(pre);
  if (!cut) {
    throw new LmqError('tokenizer/unsupported', 'tokenizer.ggml.pre is not supported', {
      op: OP,
      expected: [...CUTS.keys()].join(', '),
      found: pre ?? 'nothing',
      hint: 'Use the Hugging Face folder of the model, whose tokenizer.json says how text is cut.',
    });
  }
  return {
    pre_tokenizer: cut.preTokenizer,
    decoder: BYTE_LEVEL,
    model: { type: 'BPE', vocab, merges: merges.map(splitMerge), ignore_merges: cut.ignoreMerges },
  };
}

/** "a b" → ["a", "b"]; a byte-level token never holds a space. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  if (at < 0) throw misfit('a merge is not two tokens', 'two tokens with a space between', merge);
  return [merge.slice(0, at), merge.slice(at + 1)];
}

function sentencePiece(vocab: object, merges: [string, string][], unknown: string, prefix: boolean): object {
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '\u2581' }, spaces] } : spaces,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [strip] : []),
      ],
    },
    model: { type: 'BPE', vocab, merges, unk_token: unknown, fuse_unk: true, byte_fallback: true },
  };
}

/**
 * SentencePiece merges the neighbours whose union has the best score. As a merge list: every way to make a token of two, best score of
 * the union first; equal scores by the ids of the union and of its halves.
 */
function recoverMerges(tokens: string[], scores: number[], types: number[]): [string, string][] {
  const ids = new Map(tokens.flatMap((token, id) => (types[id] === NORMAL ? [[token, id] as const] : [])));
  const found: { pair: [string, string]; score: number; whole: number; left: number; right: number }[] = [];
  for (const [token, whole] of ids) {
    let at = 0;
    for (const char of token) {
      at += char.length; // between code points
      const left = ids.get(token.slice(0, at));
      const right = ids.get(token.slice(at));
      if (left === undefined || right === undefined) continue;
      found.push({ pair: [token.slice(0, at), token.slice(at)], score: scores[whole]!, whole, left, right });
    }
  }
  found.sort((a, b) => b.score - a.score || a.whole - b.whole || a.left - b.left || a.right - b.right);
  return found.map(({ pair }) => pair);
}

function list(value: unknown, name: string, type: 'string'): string[];
function list(value: unknown, name: string, type: 'number'): number[];
function list(value: unknown, name: string, type: 'string' | 'number'): unknown[] {
  const items = ArrayBuffer.isView(value) ? Array.from(value as unknown as ArrayLike<unknown>) : value;
  if (Array.isArray(items) && items.length && items.every((x) => typeof x === type)) return items;
  throw misfit(
    `tokenizer.ggml.${name} is unusable`,
    `a list of ${type}s`,
    Array.isArray(items) ? `a list of ${items.length}` : typeof value,
  );
}

function misfit(what: string, expected: unknown, found: unknown): LmqError {
  return new LmqError('tokenizer/unsupported', what, { op: OP, expected, found });
}
