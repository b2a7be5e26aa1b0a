/**
 * What both kinds of GGUF vocabulary share: the tokens of a `tokenizer.json` by id, with added tokens and padding, and its merges.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { type Fields, field, fieldsOf, textField, unsupported } from './_object.js';

const OP = 'ggufTokenizer';

/** `tokenizer.ggml.token_type`. */
export const TOKEN = { normal: 1, unknown: 2, control: 3, user: 4, unused: 5, byte: 6 } as const;

export interface Vocabulary {
  /** By id. */
  tokens: string[];
  types: Int32Array;
  ids: Map<string, number>;
  merges: [left: string, right: string][];
  /** Added tokens that the model has no embedding for: left out. */
  beyond: string[];
}

function readVocab(model: Fields): Map<string, number> {
  const vocab = fieldsOf(field(model, 'vocab'));
  if (!vocab)
    return unsupported('tokenizer/unsupported', 'tokenizer.json has no BPE vocabulary', 'none', 'A tokenizer.json of type BPE is needed.');
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0)
      throw new LmqError('model/config', 'a token has no id', { op: OP, found: `${token}: ${id}` });
    ids.set(token, id);
  }
  return ids;
}

function readMerges(model: Fields): [string, string][] {
  const merges = field(model, 'merges');
  if (!Array.isArray(merges)) return [];
  return merges.map((m: unknown): [string, string] => {
    const pair: unknown[] = typeof m === 'string' ? m.split(' ') : Array.isArray(m) ? m : [];
    const [left, right] = pair;
    if (pair.length === 2 && typeof left === 'string' && typeof right === 'string') return [left, right];
    throw new LmqError('model/config', 'tokenizer.json: a merge is not a pair', { op: OP, found: m });
  });
}

/** Tokens that eat no spaces behind them where llama.cpp lets the others. */
const PLAIN = ['<unk>', '<s>', '<|endoftext|>'];

/**
 * Whether added tokens take the white space behind them (`rstrip`) exactly as llama.cpp lets them in models named Phi-3: all, but three, and
 * `</s>` among them (src/llama-vocab.cpp). GGUF has no other way to say it.
 */
export function eatsSpaces(tokenizer: Fields): boolean {
  const added = field(tokenizer, 'added_tokens');
  const tokens = Array.isArray(added) ? added.map((t: unknown) => fieldsOf(t) ?? {}) : [];
  const names = tokens.map((t) => textField(t, 'content'));
  if (![...PLAIN, '</s>'].every((name) => names.includes(name))) return false;
  return tokens.every((t, i) => (field(t, 'rstrip') === true) !== PLAIN.includes(names[i]!));
}

/**
 * Tokens by id, `size` of them: ids that the tokenizer does not use become `[PADi]`, as llama.cpp's converter names them.
 * @throws LmqError `model/config` when ids collide or exceed the model's vocabulary
 */
export function readVocabulary(tokenizer: Fields, size: number): Vocabulary {
  const eating = eatsSpaces(tokenizer);
  const model = fieldsOf(field(tokenizer, 'model')) ?? {};
  const tokens = new Array<string | undefined>(size);
  const types = new Int32Array(size).fill(TOKEN.unused);
  const ids = new Map<string, number>();
  const beyond: string[] = [];
  const place = (token: string, id: number, type: number) => {
    if (id >= size)
      throw new LmqError('model/config', 'the tokenizer has more tokens than the model', {
        op: OP,
        expected: `ids below ${size}`,
        found: `${token}: ${id}`,
      });
    if (tokens[id] !== undefined && tokens[id] !== token)
      throw new LmqError('model/config', 'two tokens have one id', { op: OP, found: `${tokens[id]} and ${token}: ${id}` });
    if ((ids.get(token) ?? id) !== id)
      throw new LmqError('model/config', 'one token has two ids', { op: OP, found: `${token}: ${ids.get(token)} and ${id}` });
    tokens[id] = token;
    types[id] = type;
    ids.set(token, id);
  };
  for (const [token, id] of readVocab(model)) place(token, id, TOKEN.normal);
  const added = field(tokenizer, 'added_tokens');
  for (const entry of Array.isArray(added) ? added : []) {
    const f = fieldsOf(entry) ?? {};
    const content = textField(f, 'content');
    const id = field(f, 'id');
    if (content === undefined || typeof id !== 'number' || !Number.isInteger(id) || id < 0)
      throw new LmqError('model/config', 'tokenizer.json: an added token lacks its content or id', { op: OP, found: entry });
    for (const flag of ['lstrip', 'rstrip', 'single_word']) {
      if (field(f, flag) === true && !(flag === 'rstrip' && eating))
        unsupported(
          'tokenizer/unsupported',
          `an added token has ${flag}, which GGUF cannot say`,
          content,
          'Export to safetensors or to the lmq format instead.',
        );
    }
    if (id >= size)
      beyond.push(content); // Gemma's text models: tokens of the ones that see
    else place(content, id, field(f, 'special') === true ? TOKEN.control : TOKEN.user);
  }
  const filled: string[] = [];
  for (let i = 0; i < size; i++) filled.push(tokens[i] ?? `[PAD${i}]`);
  if (new Set(filled).size !== size) throw new LmqError('model/config', 'the padding names are taken', { op: OP, found: '[PADi]' });
  return { tokens: filled, types, ids, merges: readMerges(model), beyond };
}
