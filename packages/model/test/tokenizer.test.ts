import { readFileSync } from 'node:fs';
import { ggufModelName, ggufTokenizer } from '@lmq/checkpoints';
import { NANO_MODELS, validation } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { createTokenizer, tokenizerFromGguf } from '../src/index.js';
import { hasShared, nanoGolden, openGgufFile, readJson, SHARED, SKIP_NOTE } from './_support.js';

const json = (folder: URL, name: string) => readJson(new URL(name, folder));
const files = (folder: URL) =>
  [json(folder, 'tokenizer.json'), json(folder, 'tokenizer_config.json'), json(folder, 'generation_config.json')] as const;
const NANO = NANO_MODELS['lmq-nano'].folder;
const nano = createTokenizer(...files(NANO));
const text = readFileSync(validation, 'utf8');

describe('createTokenizer', () => {
  it('gives the golden ids, with and without the begin token', () => {
    const { prompt_ids, greedy_ids } = nanoGolden('lmq-nano');
    expect(nano.encode(text.slice(0, 600), { bos: true }).slice(0, 96)).toEqual(prompt_ids);
    expect(nano.encode(text.slice(0, 600)).slice(0, 95)).toEqual(prompt_ids.slice(1));
    expect(nano.encode('It was a dark and stormy night, and the', { bos: true })).toEqual(greedy_ids.slice(0, 13));
  });

  it('knows its special tokens and its size', () => {
    expect([nano.bos, nano.eos, nano.size]).toEqual([0, [0], 2048]);
  });

  it('decodes what it encoded, exactly', () => {
    for (const s of [text.slice(0, 5000), ' it \'s , a  "test" .\n\n', 'naïve 漢字 😀 12345', ''])
      expect(nano.decode(nano.encode(s))).toBe(s);
  });

  it('leaves out special tokens and unknown ids; takes typed arrays', () => {
    expect(nano.decode([0, ...nano.encode('so'), 2048, 1e9])).toBe('so');
    expect(nano.decode(Int32Array.from(nano.encode('so')))).toBe('so');
    expect(nano.decode([])).toBe('');
  });

  it('reads end tokens by name and by id', () => {
    const t = createTokenizer(json(NANO, 'tokenizer.json'), { eos_token: { content: '<|begin|>' } }, { eos_token_id: [5, 0] });
    expect([t.bos, t.eos]).toEqual([undefined, [0, 5]]);
    expect(() => t.encode('x', { bos: true })).toThrow(expect.objectContaining({ code: 'argument/option' }));
  });

  it('refuses what is no tokenizer', () => {
    for (const bad of [
      null,
      [],
      {},
      { model: {} },
      { model: { type: 'Nonsense', vocab: {} } },
      { model: { type: 'BPE', vocab: { a: 0 } } },
    ]) {
      expect(() => createTokenizer(bad)).toThrow(expect.objectContaining({ code: 'tokenizer/unsupported' }));
    }
  });
});

describe('tokenizerFromGguf', () => {
  const metadataOf = (folder: URL) => {
    const [tokenizer, tokenizerConfig, generationConfig] = files(folder);
    const config = json(folder, 'config.json');
    const { entries } = ggufTokenizer({ config, tokenizer, tokenizerConfig, generationConfig, size: config.vocab_size });
    return new Map(entries.map((e) => [e.key, e.value]));
  };

  it('byte-level: equals the Hugging Face form on a novel', () => {
    const t = tokenizerFromGguf(metadataOf(NANO));
    expect([t.bos, t.eos, t.size]).toEqual([0, [0], 2048]);
    const sample = `${text.slice(0, 60000)} In 1897, 12345 of <|begin|> it.`;
    expect(t.encode(sample)).toEqual(nano.encode(sample));
    expect(t.decode(t.encode(sample))).toBe(nano.decode(nano.encode(sample)));
  });

  it.skipIf(!hasShared)(`SentencePiece: equals merging the best-scored neighbours, on stories${SKIP_NOTE}`, async () => {
    const { checkpoint, tokenizer } = await openGgufFile(new URL('models/stories260K/stories260K-f32.gguf', SHARED));
    const tokens = checkpoint.metadata.get('tokenizer.ggml.tokens') as string[];
    const scores = checkpoint.metadata.get('tokenizer.ggml.scores') as Float32Array;
    const ids = new Map(tokens.map((t, i) => [t, i]));
    /** SentencePiece's own rule, without merge lists. */
    const reference = (text: string): number[] => {
      const parts: number[] = [];
      for (const char of `▁${text.replaceAll(' ', '▁')}`) {
        const id = ids.get(char);
        if (id !== undefined) parts.push(id);
        else for (const byte of new TextEncoder().encode(char)) parts.push(byte + 3);
      }
      for (;;) {
        let best = -1;
        let at = -1;
        for (let i = 0; i + 1 < parts.length; i++) {
          const id = ids.get(tokens[parts[i]!]! + tokens[parts[i + 1]!]!);
          if (id !== undefined && (at < 0 || scores[id]! > scores[best]!)) [best, at] = [id, i];
        }
        if (at < 0) return parts;
        parts.splice(at, 2, best);
      }
    };
    const stories: string[] = readJson(new URL('text/tinystories-700.json', SHARED));
    for (const story of [...stories.slice(0, 30), 'Naïve 漢字,  two spaces 😀']) {
      expect(tokenizer.encode(story)).toEqual(reference(story));
      expect(tokenizer.decode(tokenizer.encode(story))).toBe(story);
    }
  });

  it('Llama 3 style: up to three digits together, words whole, any-case contractions', () => {
    const bytes = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'.,Ġ", 'Ġab', 'abc', '123'];
    const t = tokenizerFromGguf(
      new Map<string, unknown>([
        ['tokenizer.ggml.model', 'gpt2'],
        ['tokenizer.ggml.pre', 'llama-bpe'],
        ['tokenizer.ggml.tokens', bytes],
        ['tokenizer.ggml.merges', ['Ġ a', 'Ġa b']], // neither "abc" nor "123" has merges: they come from ignore_merges
      ]),
    );
    const pieces = (s: string) => t.encode(s).map((id) => bytes[id]);
    expect(pieces('abc 12345')).toEqual(['abc', 'Ġ', '123', '4', '5']);
    expect(pieces('a ab')).toEqual(['a', 'Ġab']);
    expect(pieces("abc'S")).toEqual(['abc', "'", 'S']);
  });

  const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });
  const WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
  const REST = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
  const TEKKEN =
    '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
  it.each([
    ['qwen2', `${WORDS}|\\p{N}|${REST}`, false],
    ['llama-bpe', `${WORDS}|\\p{N}{1,3}|${REST}`, true],
    ['tekken', TEKKEN, true],
  ])('%s: what is written reads text as the original does', (pre, regex, ignore_merges) => {
    const original = json(NANO, 'tokenizer.json');
    const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
    const own = {
      ...original,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [split(regex), bytes] },
      model: { ...original.model, ignore_merges },
    };
    const config = json(NANO, 'config.json');
    const { entries } = ggufTokenizer({ config, tokenizer: own, size: config.vocab_size });
    const metadata = new Map(entries.map((e) => [e.key, e.value]));
    expect(metadata.get('tokenizer.ggml.pre')).toBe(pre);
    const sample = `${text.slice(0, 3000)} HTTPServer's 12345/678 naïve ÉCOLE\n\n  x\t漢字 😀 I'LL`;
    expect(tokenizerFromGguf(metadata).encode(sample)).toEqual(createTokenizer(own).encode(sample));
  });

  it('Phi-3: added tokens take the white space behind them, which the name says', () => {
    const tokens = [
      '<unk>',
      '<s>',
      '</s>',
      '<|endoftext|>',
      '<|user|>',
      ...Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`),
      'a',
      '▁',
    ];
    const plain = [0, 1, 3];
    const tokenizer = (eats: (id: number) => boolean) => ({
      added_tokens: [0, 1, 2, 3, 4].map((id) => ({ id, content: tokens[id], special: true, normalized: false, rstrip: eats(id) })),
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      pre_tokenizer: null,
      decoder: null,
      model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab: Object.fromEntries(tokens.map((t, i) => [t, i])), merges: [] },
    });
    const phi = tokenizer((id) => !plain.includes(id));
    const write = (t: object) => ggufTokenizer({ config: { eos_token_id: 2 }, tokenizer: t, size: tokens.length }).entries;
    const read = (name: string) =>
      tokenizerFromGguf(new Map<string, unknown>([...write(phi).map((e) => [e.key, e.value] as const), ['general.name', name]]));
    const name = ggufModelName('Mini-4k', phi);
    expect(name).toBe('Mini-4k (phi-3)');
    expect(ggufModelName('Phi-3-mini', phi)).toBe('Phi-3-mini');
    expect(ggufModelName('my-phi3-tune', json(NANO, 'tokenizer.json'))).toBe('my-phi 3-tune');
    const ids = (t: { encode(text: string): number[] }) => t.encode('<|user|>\n a<s> a');
    expect(ids(read(name))).toEqual(ids(createTokenizer(phi)));
    expect(ids(read('other'))).not.toEqual(ids(createTokenizer(phi)));
    expect(() => write(tokenizer((id) => id === 4))).toThrow(expect.objectContaining({ code: 'tokenizer/unsupported' }));
  });

  it.each([
    ['tokenizer.ggml.model', 'bert'],
    ['tokenizer.ggml.pre', 'default'],
    ['tokenizer.ggml.merges', undefined],
    ['tokenizer.ggml.merges', ['nospace']],
    ['tokenizer.ggml.tokens', 'text'],
    ['tokenizer.ggml.tokens', ['a', 'a']],
    ['tokenizer.ggml.token_type', new Int32Array(3)],
  ])('refuses %s = %s', (key, value) => {
    const metadata = metadataOf(NANO);
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
    expect(() => tokenizerFromGguf(metadata)).toThrow(expect.objectContaining({ code: 'tokenizer/unsupported' }));
  });

  it('refuses a begin token outside the vocabulary', () => {
    const metadata = metadataOf(NANO);
    metadata.set('tokenizer.ggml.bos_token_id', 2048);
    expect(() => tokenizerFromGguf(metadata)).toThrow(expect.objectContaining({ code: 'model/config' }));
  });
});
