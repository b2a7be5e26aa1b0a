import { createRng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { GgufEntry } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { type GgufTokenizerOpts, ggufTokenizer } from '../src/gguf-tokenizer.js';
import { writeGguf } from '../src/gguf-write.js';
import { memorySink } from '../src/sources.js';
import { expectFailure, failure, source } from './_files.js';

const CONFIG = { vocab_size: 8, eos_token_id: 0, bos_token_id: 0 };

const DIGITS = { type: 'Digits', individual_digits: true };
const BYTES = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const BARE_BYTES = { ...BYTES, use_regex: false };
const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });
const sequence = (...pretokenizers: unknown[]) => ({ type: 'Sequence', pretokenizers });

const TOKENIZER = {
  added_tokens: [{ id: 0, content: '<|begin|>', special: true, lstrip: false, rstrip: false, single_word: false }],
  normalizer: null,
  pre_tokenizer: sequence(DIGITS, BYTES),
  post_processor: null,
  model: {
    type: 'BPE',
    byte_fallback: false,
    ignore_merges: false,
    vocab: { '<|begin|>': 0, a: 1, b: 2, Ġ: 3, ab: 4, Ġab: 5 },
    merges: [
      ['a', 'b'],
      ['Ġ', 'ab'],
    ],
  },
};

const make = ({ config = CONFIG, ...over }: Partial<Omit<GgufTokenizerOpts, 'config'>> & { config?: Record<string, unknown> } = {}) =>
  ggufTokenizer({ config, tokenizer: TOKENIZER, size: Number(config.vocab_size), ...over }).entries;
const values = (metadata: GgufEntry[]) => Object.fromEntries(metadata.map((e) => [e.key, e.value]));
const tokenizer = (over: object, model: object = {}) => ({ ...TOKENIZER, ...over, model: { ...TOKENIZER.model, ...model } });

describe('ggufTokenizer: key-values', () => {
  it('are those that llama.cpp needs', () => {
    expect(values(make())).toEqual({
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'smollm',
      'tokenizer.ggml.tokens': ['<|begin|>', 'a', 'b', 'Ġ', 'ab', 'Ġab', '[PAD6]', '[PAD7]'],
      'tokenizer.ggml.token_type': Int32Array.of(3, 1, 1, 1, 1, 1, 5, 5),
      'tokenizer.ggml.merges': ['a b', 'Ġ ab'],
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': 0,
      'tokenizer.ggml.add_bos_token': false,
      'tokenizer.ggml.add_eos_token': false,
    });
  });

  it('have types that a GGUF file holds', async () => {
    const sink = memorySink();
    const metadata = make();
    await writeGguf(sink, { metadata, tensors: [] });
    expect((await openGguf(source(sink.bytes()))).entries.map((e) => [e.key, e.type])).toEqual(metadata.map((e) => [e.key, e.type]));
  });

  it('take special tokens and templates from the tokenizer configuration', () => {
    const tokenizerConfig = {
      bos_token: { content: 'a' },
      eos_token: 'b',
      pad_token: '<|begin|>',
      add_bos_token: true,
      chat_template: '{{ x }}',
    };
    const kv = values(make({ tokenizerConfig, generationConfig: { eos_token_id: [2, 4] } }));
    expect(kv).toMatchObject({
      'tokenizer.ggml.bos_token_id': 1,
      'tokenizer.ggml.eos_token_id': 2,
      'tokenizer.ggml.eot_token_id': 4,
      'tokenizer.ggml.padding_token_id': 0,
      'tokenizer.ggml.add_bos_token': true,
      'tokenizer.chat_template': '{{ x }}',
    });
  });

  it('see from the post-processor whether a text begins with a token', () => {
    const single = [{ SpecialToken: { id: '<|begin|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
    const post_processor = { type: 'Sequence', processors: [{ type: 'ByteLevel' }, { type: 'TemplateProcessing', single }] };
    const kv = values(make({ tokenizer: tokenizer({ post_processor }) }));
    expect(kv['tokenizer.ggml.add_bos_token']).toBe(true);
    expect(kv['tokenizer.ggml.add_eos_token']).toBe(false);
  });

  it.each<[string, object, string]>([
    ['more tokens than the embedding', { vocab_size: 5 }, 'model/config'],
    ['no end of text', { eos_token_id: null }, 'tokenizer/unsupported'],
  ])('refuse %s', async (_, over, code) => {
    expect((await failure(() => make({ config: { ...CONFIG, ...over } }))).code).toBe(code);
  });
});

describe('ggufTokenizer: byte-level tokenizers', () => {
  const LLAMA3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

  it.each<[string, unknown, boolean]>([
    ['smollm', sequence(DIGITS, BYTES), false],
    ['gpt-2', BYTES, false],
    ['gpt-2', { type: 'ByteLevel' }, false],
    ['llama-bpe', sequence(split(LLAMA3), BARE_BYTES), true],
    ['smaug-bpe', sequence(split(LLAMA3), BARE_BYTES), false],
    ['qwen2', sequence(split(LLAMA3.replace('{1,3}', '')), BARE_BYTES), false],
  ])('%s', (name, pre_tokenizer, ignore_merges) => {
    const metadata = make({ tokenizer: tokenizer({ pre_tokenizer }, { ignore_merges }) });
    expect(values(metadata)['tokenizer.ggml.pre']).toBe(name);
  });

  it.each<[string, object, object?]>([
    ['no pre-tokenizer', { pre_tokenizer: null }],
    ['grouped digits', { pre_tokenizer: sequence({ type: 'Digits', individual_digits: false }, BYTES) }],
    ['the other order', { pre_tokenizer: sequence(BYTES, DIGITS) }],
    ['an unknown expression', { pre_tokenizer: sequence(split('\\w+'), BARE_BYTES) }],
    ['another split', { pre_tokenizer: sequence({ ...split(LLAMA3), behavior: 'Removed' }, BARE_BYTES) }],
    ['a space put before the text', { pre_tokenizer: { ...BYTES, add_prefix_space: true } }],
    ['an unknown step', { pre_tokenizer: { type: 'Whitespace' } }],
    ['whole words before merges', {}, { ignore_merges: true }],
    ['a normalizer', { normalizer: { type: 'NFKC' } }],
    ['another model', {}, { type: 'Unigram' }],
    ['a merge with a space', {}, { merges: [['a ', 'b']] }],
    ['an added token that eats spaces', { added_tokens: [{ id: 0, content: '<|begin|>', special: true, rstrip: true }] }],
  ])('refuses %s', async (_, over, model = {}) => {
    const e = await expectFailure(() => make({ tokenizer: tokenizer(over, model) }), 'tokenizer/unsupported');
    expect(e.facts.hint).toMatch(/./);
  });

  it.each<[string, object, object?]>([
    ['one id for two tokens', {}, { vocab: { ...TOKENIZER.model.vocab, c: 1 } }],
    ['two ids for one token', { added_tokens: [{ id: 7, content: 'a', special: true }] }],
    ['a merge of one', {}, { merges: ['ab'] }],
  ])('finds %s', async (_, over, model = {}) => {
    expect((await failure(() => make({ tokenizer: tokenizer(over, model) }))).code).toBe('model/config');
  });

  it('says that llama.cpp does not normalize', () => {
    const nfc = { config: CONFIG, tokenizer: tokenizer({ normalizer: { type: 'NFC' } }), size: 8 };
    expect(ggufTokenizer(nfc).notes).toEqual([expect.stringMatching(/NFC/)]);
    expect(ggufTokenizer({ ...nfc, tokenizer: TOKENIZER }).notes).toEqual([]);
  });

  it('leaves out added tokens that have no embedding, and says so', () => {
    const added_tokens = [...TOKENIZER.added_tokens, { id: 8, content: '<image>', special: true }];
    const { entries, notes } = ggufTokenizer({ config: CONFIG, tokenizer: tokenizer({ added_tokens }), size: 8 });
    expect(values(entries)['tokenizer.ggml.tokens']).not.toContain('<image>');
    expect(notes).toEqual([expect.stringMatching(/<image>/)]);
  });

  it('takes the template of chat_template.jinja first', () => {
    const kv = values(make({ tokenizerConfig: { chat_template: 'old' }, chatTemplate: 'new' }));
    expect(kv['tokenizer.chat_template']).toBe('new');
  });

  it('keeps added tokens apart from the rest', () => {
    const added_tokens = [...TOKENIZER.added_tokens, { id: 6, content: 'plain', special: false }];
    const metadata = make({ tokenizer: tokenizer({ added_tokens }) });
    expect([...(values(metadata)['tokenizer.ggml.token_type'] as Int32Array)]).toEqual([3, 1, 1, 1, 1, 1, 4, 5]);
  });
});

describe('ggufTokenizer: SentencePiece-style tokenizers', () => {
  const NORMALIZER = {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  };
  const BYTE_TOKENS = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);

  function spm(merges: [string, string][], letters = 'ab▁', over: object = {}) {
    const tokens = ['<unk>', '<s>', ...BYTE_TOKENS, ...letters, ...new Set(merges.map(([a, b]) => a + b))];
    const special = (id: number) => ({ id, content: tokens[id], special: true });
    return {
      size: tokens.length,
      tokenizer: {
        added_tokens: [special(0), special(1)],
        normalizer: NORMALIZER,
        pre_tokenizer: null,
        ...over,
        model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab: Object.fromEntries(tokens.map((t, i) => [t, i])), merges },
      },
    };
  }
  const run = ({ size, tokenizer }: ReturnType<typeof spm>) => values(make({ tokenizer, config: { ...CONFIG, vocab_size: size } }));

  it('become scores: minus the rank of the last merge', () => {
    const kv = run(
      spm([
        ['a', 'b'],
        ['▁', 'ab'],
      ]),
    );
    expect(kv['tokenizer.ggml.model']).toBe('llama');
    expect(kv['tokenizer.ggml.add_space_prefix']).toBe(true);
    expect((kv['tokenizer.ggml.tokens'] as string[]).slice(258)).toEqual(['a', 'b', '▁', 'ab', '▁ab']);
    expect([...(kv['tokenizer.ggml.scores'] as Float32Array).slice(258)]).toEqual([-2, -2, -2, -0, -1]);
    const types = [...(kv['tokenizer.ggml.token_type'] as Int32Array)];
    expect(types.slice(0, 3)).toEqual([2, 3, 6]);
    expect(types.slice(257)).toEqual([6, 1, 1, 1, 1, 1]);
    expect('tokenizer.ggml.merges' in kv).toBe(false);
  });

  it('say whether a space comes before the text', () => {
    const prefix = (over: object) => run(spm([['a', 'b']], 'ab▁', over))['tokenizer.ggml.add_space_prefix'];
    expect(prefix({ normalizer: NORMALIZER.normalizers[1] })).toBe(false);
    const idle = { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false }; // Gemma's: no space is left
    expect(prefix({ normalizer: NORMALIZER.normalizers[1], pre_tokenizer: idle })).toBe(false);
    expect(prefix({ normalizer: null, pre_tokenizer: { type: 'Metaspace', split: false, prepend_scheme: 'first' } })).toBe(true);
    expect(prefix({ normalizer: null, pre_tokenizer: { type: 'Metaspace', split: false, prepend_scheme: 'never' } })).toBe(false);
  });

  it.each<[string, ReturnType<typeof spm>]>([
    [
      'without byte tokens',
      (() => {
        const s = spm([['a', 'b']]);
        const { '<0x7F>': _, ...vocab } = s.tokenizer.model.vocab;
        return { ...s, tokenizer: { ...s.tokenizer, model: { ...s.tokenizer.model, vocab } } };
      })(),
    ],
    ['with an unknown normalizer', spm([['a', 'b']], 'ab▁', { normalizer: { type: 'NFKC' } })],
    ['with a pre-tokenizer', spm([['a', 'b']], 'ab▁', { pre_tokenizer: DIGITS })],
    [
      'whose token is never reached',
      spm([
        ['b', 'a'],
        ['a', 'b'],
        ['ab', 'a'],
      ]),
    ],
  ])('are refused %s', async (_, s) => {
    await expectFailure(() => run(s), 'tokenizer/unsupported');
  });

  // Two independent tokenizers: pairs by rank, and llama.cpp's neighbours by score. They must agree on every text.
  const byRank = (text: string, merges: [string, string][]) => {
    const parts = [...text];
    for (;;) {
      let best = merges.length;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = merges.findIndex(([a, b]) => a === parts[i] && b === parts[i + 1]);
        if (rank >= 0 && rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    }
  };
  const byScore = (text: string, tokens: string[], scores: Float32Array) => {
    const parts = [...text];
    for (;;) {
      let best = Number.NEGATIVE_INFINITY;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const id = tokens.indexOf(parts[i]! + parts[i + 1]!);
        if (id >= 0 && scores[id]! > best) [best, at] = [scores[id]!, i];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    }
  };

  it('split every text as before, or are refused (300 random vocabularies)', () => {
    const rng = createRng(9);
    let taken = 0;
    let differed = 0;
    for (let n = 0; n < 300; n++) {
      const pieces = ['a', 'b', '▁'];
      const merges: [string, string][] = [];
      while (merges.length < 7) {
        const left = pieces[rng.below(pieces.length)]!;
        const right = pieces[rng.below(pieces.length)]!;
        if (merges.some(([a, b]) => a === left && b === right)) continue;
        merges.push([left, right]);
        if (!pieces.includes(left + right)) pieces.push(left + right);
      }
      const s = spm(merges);
      const texts = Array.from({ length: 40 }, () => Array.from({ length: 12 }, () => 'ab▁'[rng.below(3)]).join(''));
      let kv: Record<string, unknown>;
      try {
        kv = run(s);
      } catch (e) {
        expect((e as { code: string }).code).toBe('tokenizer/unsupported');
        const ids = Object.keys(s.tokenizer.model.vocab);
        const naive = Float32Array.from(ids, (t) => -merges.findIndex(([a, b]) => a + b === t));
        if (texts.some((t) => byRank(t, merges).join() !== byScore(t, ids, naive).join())) differed++;
        continue;
      }
      taken++;
      for (const text of texts)
        expect(
          byScore(text, kv['tokenizer.ggml.tokens'] as string[], kv['tokenizer.ggml.scores'] as Float32Array),
          `${text} ${merges}`,
        ).toEqual(byRank(text, merges));
    }
    expect(taken).toBeGreaterThan(20);
    expect(differed).toBeGreaterThan(20); // the refusals are needed
  });
});
