/**
 * Tokenizers as Hugging Face stores them (`tokenizer.json`), run by @huggingface/tokenizers. Known difference from the Rust library:
 * JavaScript's `\s` matches U+FEFF, so byte-order marks inside a text may be split differently.
 *
 * A tokenizer.json is an untrusted file that says how to cut text, in regular expressions. Ids are checked before the library makes tables
 * of them, and its errors become `LmqError`s; but an expression made to be slow is run as it is.
 * @module
 */
import { Tokenizer as Runner } from '@huggingface/tokenizers';
import { LmqError } from '@lmq/tensor';
import { LIMITS, ownField } from './_fields.js';
import type { Tokenizer } from './api.js';
import { renderChat } from './chat.js';

/** What a caller knows about special tokens besides `tokenizer.json`. */
interface Specials {
  bos?: number;
  /** Whether the model wants `bos` before a text. Default true. */
  addBos?: boolean;
  eos: number[];
  /** The chat template, a text or a list of named ones. */
  template?: unknown;
  /** Texts of special tokens, for the template. */
  texts?: Record<string, string>;
}

/**
 * Makes a tokenizer of a parsed `tokenizer.json`.
 * @param tokenizerConfig parsed `tokenizer_config.json`: names the begin and end tokens, and may hold the chat template
 * @param generationConfig parsed `generation_config.json`: may name more end tokens, by id
 * @param chatTemplate the text of `chat_template.jinja`, which wins over the template in `tokenizer_config.json`
 * @throws LmqError `tokenizer/unsupported` when the tokenizer cannot be built
 */
export function createTokenizer(
  tokenizerJson: unknown,
  tokenizerConfig: unknown = {},
  generationConfig: unknown = {},
  chatTemplate?: string,
): Tokenizer {
  const json = asObject(tokenizerJson, 'tokenizer.json');
  const config = asObject(tokenizerConfig, 'tokenizer_config.json');
  const generation = asObject(generationConfig, 'generation_config.json');
  const runner = buildRunner(json, config);
  const textOf = (field: string): unknown => {
    const value = ownField(config, field);
    return typeof value === 'object' && value !== null ? ownField(value, 'content') : value;
  };
  const named = (field: string): number | undefined => {
    const text = textOf(field);
    return typeof text === 'string' ? runner.token_to_id(text) : undefined;
  };
  const numbered = (field: string): number[] => [ownField(generation, field)].flat().filter((id) => Number.isSafeInteger(id)) as number[];
  const ends = [named('eos_token'), ...numbered('eos_token_id')].filter((id) => id !== undefined);
  const texts: Record<string, string> = {};
  for (const field of SPECIAL_TOKENS) {
    const text = textOf(field);
    if (typeof text === 'string') texts[field] = text;
  }
  const template = chatTemplate ?? ownField(config, 'chat_template') ?? undefined;
  return wrap(runner, {
    bos: named('bos_token') ?? numbered('bos_token_id')[0],
    addBos: ownField(config, 'add_bos_token') !== false,
    eos: [...new Set(ends)],
    template,
    texts,
  });
}

/** A tokenizer of a `tokenizer.json` object with known special tokens. */
export function wrapTokenizer(json: object, specials: Specials): Tokenizer {
  return wrap(buildRunner(json, {}), specials);
}

/** Fields of tokenizer_config.json that templates may write. */
const SPECIAL_TOKENS = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];
const MODELS = ['BPE', 'Unigram', 'WordPiece'];

function buildRunner(json: object, config: object): Runner {
  const op = 'createTokenizer';
  const model = ownField(json, 'model');
  if (typeof model !== 'object' || model === null || typeof (ownField(model, 'vocab') ?? undefined) !== 'object') {
    throw new LmqError('tokenizer/unsupported', 'tokenizer.json has no model with a vocabulary', { op });
  }
  // The oldest files do not name the type; those with merges are BPE.
  const type = ownField(model, 'type') ?? (ownField(model, 'merges') ? 'BPE' : 'nothing');
  if (!MODELS.includes(type as string)) {
    throw new LmqError('tokenizer/unsupported', 'the model of tokenizer.json is not supported', {
      op,
      expected: MODELS.join(', '),
      found: type,
    });
  }
  checkIds(model, ownField(json, 'added_tokens') ?? [], op);
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  try {
    return new Runner({ ...parts, ...json, model: { ...model, type } }, config);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LmqError('tokenizer/unsupported', 'the tokenizer cannot be built', { op, found: reason, cause });
  }
}

/** A table of ids is as long as the largest of them: one made-up id would fill the memory. */
function checkIds(model: object, added: unknown, op: string): void {
  const unusable = (what: string, expected: string, found: unknown) =>
    new LmqError('tokenizer/unsupported', `tokenizer.json: ${what}`, { op, expected, found });
  const check = (id: unknown, of: unknown) => {
    if (Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < LIMITS.vocab) return;
    throw unusable(`the id of ${JSON.stringify(of)} is unusable`, `an integer in 0 … ${LIMITS.vocab - 1}`, id);
  };
  const vocab = ownField(model, 'vocab') as object;
  if (!Array.isArray(vocab)) for (const [token, id] of Object.entries(vocab)) check(id, token);
  else if (vocab.length > LIMITS.vocab) throw unusable('the vocabulary is too long', `at most ${LIMITS.vocab} tokens`, vocab.length);
  if (!Array.isArray(added)) throw unusable('added_tokens is not a list', 'a list', typeof added);
  for (const token of added) {
    const of = asObject(token, 'an added token');
    check(ownField(of, 'id'), ownField(of, 'content'));
  }
}

/** Runs the library on a text or on ids. What a damaged file makes it throw becomes an error of the tokenizer. */
function guarded<T>(op: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new LmqError('tokenizer/unsupported', 'the tokenizer fails on this input', { op, found, cause });
  }
}

function wrap(runner: Runner, { bos, addBos = true, eos, template, texts }: Specials): Tokenizer {
  let size = 0;
  for (const id of runner.get_vocab().values()) if (id >= size) size = id + 1;
  const tokenizer: Tokenizer = {
    ...(bos !== undefined && { bos }),
    addBos: bos !== undefined && addBos,
    ...(template !== undefined && {
      chat: (messages, opts) => tokenizer.encode(renderChat(template, messages, { ...opts, specialTokens: texts })),
    }),
    eos,
    size,
    encode(text, opts = {}) {
      const { ids } = text.length ? guarded('encode', () => runner.encode(text, { add_special_tokens: false })) : { ids: [] };
      const hole = ids.findIndex((id) => !Number.isSafeInteger(id));
      if (hole >= 0) {
        throw new LmqError('tokenizer/unsupported', 'the vocabulary has no token for a part of the text', {
          op: 'encode',
          found: `token ${hole}`,
        });
      }
      if (!opts.bos) return ids;
      if (bos === undefined) {
        throw new LmqError('argument/option', 'a begin token is asked for, and the tokenizer has none', {
          op: 'encode',
          hint: 'Leave out bos.',
        });
      }
      return [bos, ...ids];
    },
    decode(ids) {
      const known = Array.from(ids).filter((id) => runner.id_to_token(id) !== undefined);
      const opts = { skip_special_tokens: true, clean_up_tokenization_spaces: false };
      return known.length ? guarded('decode', () => runner.decode(known, opts)) : '';
    },
  };
  return tokenizer;
}

function asObject(value: unknown, what: string): object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new LmqError('tokenizer/unsupported', `${what} is not an object`, { op: 'createTokenizer', found: typeof value });
}
