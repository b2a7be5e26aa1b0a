/**
 * `tokenizer.ggml.*`: a Hugging Face tokenizer as GGUF key-values, or a refusal that says why llama.cpp would read text differently.
 * @module
 */

import { printable } from '@lmq/tensor';
import { eatsSpaces, readVocabulary, type Vocabulary } from './_gguf-bpe.js';
import { preTokenizerName } from './_gguf-pre.js';
import { isSpm, spmVocabulary } from './_gguf-spm.js';
import { type Fields, field, fieldsOf, textField, unsupported } from './_object.js';
import type { GgufEntry } from './api.js';

const HINT = 'Export to safetensors or to the lmq format instead.';

interface TokenizerFiles {
  config: Fields;
  tokenizer: Fields;
  tokenizerConfig: Fields;
  generationConfig: Fields;
}

export interface GgufTokenizerOpts {
  /** Parsed config.json. */
  config: unknown;
  /** Parsed tokenizer.json. */
  tokenizer: unknown;
  /** Parsed tokenizer_config.json. */
  tokenizerConfig?: unknown;
  /** Parsed generation_config.json. */
  generationConfig?: unknown;
  /** Contents of chat_template.jinja. Default: the template in tokenizer_config.json. */
  chatTemplate?: string;
  /** Tokens of the model's embedding. */
  size: number;
}

/** Content of a special token in tokenizer_config.json: a string, or an object with `content`. */
function specialContent(of: Fields, key: string): string | undefined {
  const value = field(of, key);
  return typeof value === 'string' ? value : textField(fieldsOf(value) ?? {}, 'content');
}

/** Ids of a special token: the text that tokenizer_config.json names, then the ids of generation_config.json, else of config.json. */
function specialIds(files: TokenizerFiles, vocabulary: Vocabulary, name: string): number[] {
  const ids: number[] = [];
  const text = specialContent(files.tokenizerConfig, `${name}_token`);
  const byText = text === undefined ? undefined : vocabulary.ids.get(text);
  const configured = field(files.generationConfig, `${name}_token_id`) ?? field(files.config, `${name}_token_id`);
  for (const value of [byText, configured]) {
    for (const id of Array.isArray(value) ? value : [value]) {
      if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabulary.tokens.length && !ids.includes(id)) ids.push(id);
    }
  }
  return ids;
}

/** Whether the post-processor puts a special token before (or after) every text. */
function adds(tokenizer: Fields, side: 'start' | 'end'): boolean {
  const visit = (value: unknown): boolean => {
    const f = fieldsOf(value);
    if (!f) return false;
    const type = field(f, 'type');
    if (type === 'Sequence') {
      const inner = field(f, 'processors');
      return Array.isArray(inner) && inner.some(visit);
    }
    if (type !== 'TemplateProcessing') return false;
    const single = field(f, 'single');
    if (!Array.isArray(single) || single.length === 0) return false;
    const piece = fieldsOf(single[side === 'start' ? 0 : single.length - 1]);
    return piece !== undefined && field(piece, 'SpecialToken') !== undefined;
  };
  return visit(field(tokenizer, 'post_processor'));
}

/** A tokenizer_config flag wins over the post-processor: it is what the tokenizer classes build the latter from. */
function addsToken(files: TokenizerFiles, key: string, side: 'start' | 'end'): boolean {
  const flag = field(files.tokenizerConfig, key);
  return typeof flag === 'boolean' ? flag : adds(files.tokenizer, side);
}

function chatTemplate(of: Fields): string | undefined {
  const value = field(of, 'chat_template');
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const fallback = value.map((v) => fieldsOf(v) ?? {}).find((v) => field(v, 'name') === 'default');
  return fallback && textField(fallback, 'template');
}

/**
 * A model's name as `general.name`: llama.cpp lets added tokens take the white space behind them where it holds "phi-3" or "phi3", and
 * nowhere else. So it is put into the name of a model whose tokens do, and taken out of that of another.
 */
export function ggufModelName(name: string, tokenizer: unknown): string {
  const named = /phi-?3/i.test(name);
  const eating = eatsSpaces(fieldsOf(tokenizer) ?? {});
  if (named === eating) return name;
  return eating ? `${name} (phi-3)` : name.replace(/phi-?3/gi, 'phi 3');
}

/**
 * Key-values `tokenizer.…` of a GGUF file, and in `notes` what llama.cpp will do otherwise. For the model's name see {@link ggufModelName}.
 * @throws LmqError `tokenizer/unsupported` for a tokenizer that llama.cpp would read differently, `model/config` for one that contradicts itself
 */
export function ggufTokenizer({ size, chatTemplate: jinja, ...parsed }: GgufTokenizerOpts): { entries: GgufEntry[]; notes: string[] } {
  const files: TokenizerFiles = {
    config: fieldsOf(parsed.config) ?? {},
    tokenizer: fieldsOf(parsed.tokenizer) ?? {},
    tokenizerConfig: fieldsOf(parsed.tokenizerConfig) ?? {},
    generationConfig: fieldsOf(parsed.generationConfig) ?? {},
  };
  const { tokenizer } = files;
  const type = field(fieldsOf(field(tokenizer, 'model')) ?? {}, 'type');
  if (type !== 'BPE') unsupported('tokenizer/unsupported', 'only BPE tokenizers can be written', type ?? 'none', HINT);
  const vocabulary = readVocabulary(tokenizer, size);
  const entries: GgufEntry[] = [];
  const notes = vocabulary.beyond.map((token) => `the added token ${printable(token)} is left out: the model has no embedding for it`);
  const add = (key: string, type: GgufEntry['type'], value: unknown) => entries.push({ key: `tokenizer.ggml.${key}`, type, value });
  if (isSpm(tokenizer)) {
    const { scores, addSpacePrefix } = spmVocabulary(tokenizer, vocabulary);
    add('model', 'string', 'llama');
    add('pre', 'string', 'default');
    add('tokens', 'string[]', vocabulary.tokens);
    add('scores', 'f32[]', scores);
    add('token_type', 'i32[]', vocabulary.types);
    add('add_space_prefix', 'bool', addSpacePrefix);
  } else {
    const pre = preTokenizerName(tokenizer);
    const normalizer = fieldsOf(field(tokenizer, 'normalizer'));
    const form = normalizer && field(normalizer, 'type');
    if (form === 'NFC') notes.push('llama.cpp does not bring text into the normal form NFC first, as the original tokenizer does');
    else if (normalizer)
      unsupported('tokenizer/unsupported', 'llama.cpp does not normalize the text of a byte-level tokenizer', form, HINT);
    const spaced = vocabulary.merges.find(([a, b]) => a.includes(' ') || b.includes(' '));
    if (spaced) unsupported('tokenizer/unsupported', 'a merge contains a space', spaced, HINT);
    add('model', 'string', 'gpt2');
    add('pre', 'string', pre);
    add('tokens', 'string[]', vocabulary.tokens);
    add('token_type', 'i32[]', vocabulary.types);
    add(
      'merges',
      'string[]',
      vocabulary.merges.map(([a, b]) => `${a} ${b}`),
    );
  }
  for (const [name, key] of [
    ['bos', 'bos'],
    ['eos', 'eos'],
    ['unk', 'unknown'],
    ['pad', 'padding'],
  ] as const) {
    const [id, second] = specialIds(files, vocabulary, name);
    if (id !== undefined) add(`${key}_token_id`, 'u32', id);
    // without an id of its own, llama.cpp ends generation at token 11 (byte-level) or 2
    else if (name === 'eos')
      unsupported('tokenizer/unsupported', 'the model has no end-of-text token', 'none', 'Name eos_token_id in config.json.');
    if (name === 'eos' && second !== undefined) add('eot_token_id', 'u32', second);
  }
  add('add_bos_token', 'bool', addsToken(files, 'add_bos_token', 'start'));
  add('add_eos_token', 'bool', addsToken(files, 'add_eos_token', 'end'));
  const template = jinja ?? chatTemplate(files.tokenizerConfig);
  if (template !== undefined) entries.push({ key: 'tokenizer.chat_template', type: 'string', value: template });
  return { entries, notes };
}
