/**
 * Tokenizers as Hugging Face stores them (`tokenizer.json`), run by @huggingface/tokenizers. Known difference from the Rust library:
 * JavaScript's `\s` matches U+FEFF, so byte-order marks inside a text may be split differently.
 * @module
 */
import { Tokenizer as Runner } from '@huggingface/tokenizers';
import { LmqError } from '@lmq/tensor';
import { ownField } from './_fields.js';
import type { Tokenizer } from './api.js';

/** What a caller knows about special tokens besides `tokenizer.json`. */
interface Specials {
  bos?: number;
  eos: number[];
}

/**
 * Makes a tokenizer of a parsed `tokenizer.json`.
 * @param tokenizerConfig parsed `tokenizer_config.json`: names the begin and end tokens
 * @param generationConfig parsed `generation_config.json`: may name more end tokens, by id
 * @throws LmqError `tokenizer/unsupported` when the tokenizer cannot be built
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig: unknown = {}, generationConfig: unknown = {}): Tokenizer {
  const json = asObject(tokenizerJson, 'tokenizer.json');
  const config = asObject(tokenizerConfig, 'tokenizer_config.json');
  const generation = asObject(generationConfig, 'generation_config.json');
  const runner = buildRunner(json, config);
  const named = (field: string): number | undefined => {
    const value = ownField(config, field);
    const text = typeof value === 'object' && value !== null ? ownField(value, 'content') : value;
    return typeof text === 'string' ? runner.token_to_id(text) : undefined;
  };
  const numbered = (field: string): number[] => [ownField(generation, field)].flat().filter((id) => Number.isSafeInteger(id)) as number[];
  const ends = [named('eos_token'), ...numbered('eos_token_id')].filter((id) => id !== undefined);
  return wrap(runner, { bos: named('bos_token') ?? numbered('bos_token_id')[0], eos: [...new Set(ends)] });
}

/** A tokenizer of a `tokenizer.json` object with known special tokens. */
export function wrapTokenizer(json: object, specials: Specials): Tokenizer {
  return wrap(buildRunner(json, {}), specials);
}

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
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  try {
    return new Runner({ ...parts, ...json, model: { ...model, type } }, config);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LmqError('tokenizer/unsupported', 'the tokenizer cannot be built', { op, found: reason, cause });
  }
}

function wrap(runner: Runner, { bos, eos }: Specials): Tokenizer {
  let size = 0;
  for (const id of runner.get_vocab().values()) if (id >= size) size = id + 1;
  return {
    ...(bos !== undefined && { bos }),
    eos,
    size,
    encode(text, opts = {}) {
      const { ids } = text.length ? runner.encode(text, { add_special_tokens: false }) : { ids: [] };
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
      return known.length ? runner.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false }) : '';
    },
  };
}

function asObject(value: unknown, what: string): object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new LmqError('tokenizer/unsupported', `${what} is not an object`, { op: 'createTokenizer', found: typeof value });
}
