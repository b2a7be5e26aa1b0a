// Configurations and tokenizers with fields changed, removed and exchanged, by the thousand: each is read, or refused with an LmqError, and
// none takes long. LMQ_FUZZ_CASES sets the number of configurations (default 3000), a tenth of it of tokenizers.
import { ggufTokenizer } from '@lmq/checkpoints';
import { NANO_MODELS } from '@lmq/nano';
import { createRng, isLmqError, type Rng } from '@lmq/tensor';
import { describe, expect, it, vi } from 'vitest';
import { createTokenizer, ggufModel, parseGgufConfig, parseHfConfig, ropeFrequencies, tokenizerFromGguf } from '../src/index.js';
import { CASES, readCase } from './_families.js';
import { readJson } from './_support.js';

const COUNT = Number(process.env.LMQ_FUZZ_CASES ?? 3000);
const JUNK: unknown[] = [
  null,
  undefined,
  true,
  0,
  -1,
  2,
  1e308,
  Number.NaN,
  2 ** 53,
  '',
  'x',
  '__proto__',
  [],
  {},
  [1],
  [[]],
  { a: 1 },
  3n,
];
const pick = <T>(rng: Rng, from: readonly T[]): T => from[rng.below(from.length)]!;

type Place = [object: Record<string, unknown>, key: string];

/** Every place in a JSON value that may be changed. */
function places(value: unknown, out: Place[] = []): Place[] {
  if (typeof value !== 'object' || value === null) return out;
  for (const [key, inner] of Object.entries(value)) {
    out.push([value as Record<string, unknown>, key]);
    places(inner, out);
  }
  return out;
}

function mutated<T>(rng: Rng, json: T): T {
  const copy = structuredClone(json);
  for (let n = 1 + rng.below(3); n > 0; n--) {
    const all = places(copy);
    const [object, key] = pick(rng, all);
    const kind = rng.below(4);
    if (kind === 0) delete object[key];
    else if (kind === 1 && typeof object[key] === 'number') object[key] *= pick(rng, [-1, 0.5, 3, 1e6]);
    else if (kind === 2) object[key] = structuredClone(pick(rng, all)[0]);
    else object[key] = structuredClone(pick(rng, JUNK));
  }
  return copy;
}

/** Runs all cases; returns how many were read and how many refused. */
function survive(cases: number, seed: number, run: (rng: Rng) => void, most: number): { read: number; refused: number } {
  const rng = createRng(seed);
  const ends = { read: 0, refused: 0 };
  for (let i = 0; i < cases; i++) {
    const start = performance.now();
    try {
      run(rng);
      ends.read++;
    } catch (e) {
      if (!isLmqError(e)) throw new Error(`case ${i} of seed ${seed}`, { cause: e });
      ends.refused++;
    }
    const took = performance.now() - start;
    if (took > most) throw new Error(`case ${i} of seed ${seed}: took ${took} ms`);
  }
  return ends;
}

const nano = (file: string) => readJson(new URL(file, NANO_MODELS['lmq-nano'].folder));

/** A tokenizer small enough to be copied hundreds of times: all single characters and some merges. */
function smallTokenizer() {
  const json = nano('tokenizer.json');
  const tokens = [json.added_tokens[0].content, ...Object.keys(json.model.vocab)].filter((t, i, all) => all.indexOf(t) === i).slice(0, 300);
  json.model.vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  json.model.merges = json.model.merges
    .filter((m: string | string[]) => tokens.includes([m].flat().join('').replace(' ', '')))
    .slice(0, 30);
  return json;
}

function use(tokenizer: ReturnType<typeof createTokenizer>): void {
  const ids = tokenizer.encode('Hello wörld 123\n', { bos: tokenizer.bos !== undefined });
  tokenizer.decode(ids);
  tokenizer.decode([0, 1, 2, -1, 1e9]);
  tokenizer.chat?.([{ role: 'user', content: 'Hi' }]);
}

describe('hostile files of a model', () => {
  it('config.json', () => {
    const configs = CASES.flatMap((name) => [readCase(name).config, readCase(name).current]);
    const run = (rng: Rng) => {
      const { rope } = parseHfConfig(mutated(rng, pick(rng, configs)), () => true);
      for (const kind of [rope, rope.local]) if (kind) ropeFrequencies(kind, rope.rotary);
    };
    const ends = survive(COUNT, 1, run, 500);
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(COUNT / 10);
  });

  it('tokenizer.json and its companions', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {}); // the library's, on patterns that it does not know
    const json = smallTokenizer();
    const config = { ...nano('tokenizer_config.json'), chat_template: '{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}' };
    const generation = { bos_token_id: 0, eos_token_id: [0, 1] };
    const run = (rng: Rng) => {
      if (rng.below(2)) use(createTokenizer(mutated(rng, json), config, generation));
      else use(createTokenizer(json, mutated(rng, config), mutated(rng, generation)));
    };
    const ends = survive(COUNT / 10, 2, run, 5000);
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(COUNT / 200);
    warn.mockRestore();
  });

  it('key-values of a GGUF file', () => {
    const config = { ...nano('config.json'), vocab_size: 300 };
    const { metadata } = ggufModel(
      parseHfConfig(config, () => true),
      { fileType: 'f16' },
    );
    metadata.push(
      ...ggufTokenizer({
        config,
        tokenizer: smallTokenizer(),
        tokenizerConfig: nano('tokenizer_config.json'),
        generationConfig: nano('generation_config.json'),
        size: 300,
      }).entries,
    );
    const run = (rng: Rng) => {
      const values = new Map<string, unknown>(metadata.map((e) => [e.key, e.value]));
      for (let n = 1 + rng.below(2); n > 0; n--) {
        const key = pick(rng, [...values.keys(), 'llama.expert_count', 'llama.attention.sliding_window', 'tokenizer.chat_template']);
        const value = values.get(key);
        if (rng.below(2) && ArrayBuffer.isView(value) === false && Array.isArray(value)) {
          const items = [...value];
          items[rng.below(items.length)] = pick(rng, JUNK);
          values.set(key, items);
        } else values.set(key, pick(rng, [...JUNK, new Float32Array(300), new Int32Array(300)]));
      }
      parseGgufConfig(values, (name) => name !== 'rope_freqs.weight');
      use(tokenizerFromGguf(values));
    };
    const ends = survive(COUNT / 10, 3, run, 5000);
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(COUNT / 200);
  });

  it('key-values of every architecture of GGUF', () => {
    const files = CASES.filter((name) => name !== 'llama-yarn-mscale').map((name) => {
      const { config, tensors } = readCase(name);
      const has = (tensor: string) => Object.hasOwn(tensors, tensor);
      const { metadata, extra, place } = ggufModel(parseHfConfig(config, has), { fileType: 'f16' });
      const names = Object.keys(tensors).map((tensor) => place(tensor));
      return { metadata, extra, names: new Set(names.map((p) => (p && 'name' in p ? p.name : (p?.stack ?? '')))) };
    });
    const run = (rng: Rng) => {
      const { metadata, extra, names } = pick(rng, files);
      const values = new Map<string, unknown>(metadata.map((e) => [e.key, e.value]));
      const architecture = metadata[0]!.value;
      const more = [
        'rope.scaling.type',
        'rope.scaling.factor',
        'rope.scale_linear',
        'rope.freq_base_swa',
        'attention.sliding_window_pattern',
      ];
      for (let n = 1 + rng.below(2); n > 0; n--) {
        const key = pick(rng, [...values.keys(), ...more.map((m) => `${architecture}.${m}`)]);
        values.set(key, pick(rng, [...JUNK, 'yarn', 'linear', 'llama', 'qwen2', 'gemma3', 'phi3', 1, 2, 6, 8, 64]));
      }
      const factors = extra[0] && pick(rng, [extra[0].data, extra[0].data, new Float32Array(8), new Float32Array(1e5)]);
      const a = parseGgufConfig(values, (name) => names.has(name) || (name === 'rope_freqs.weight' && factors !== undefined), factors);
      ropeFrequencies(a.rope, a.rope.rotary);
    };
    const ends = survive(COUNT / 3, 7, run, 2000);
    expect(Math.min(ends.read, ends.refused)).toBeGreaterThan(COUNT / 60);
  });

  it('refuses an id that would fill the memory', () => {
    for (const id of [296_000_000, 2 ** 53, -1, 0.5, '7', null]) {
      for (const place of ['vocab', 'added'] as const) {
        const json = smallTokenizer();
        if (place === 'vocab') json.model.vocab.a = id;
        else json.added_tokens[0].id = id;
        expect(() => createTokenizer(json)).toThrow(expect.objectContaining({ code: 'tokenizer/unsupported' }));
      }
    }
  });
});
