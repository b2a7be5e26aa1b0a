import { describe, expect, it } from 'vitest';
import { parseGgufConfig, siteShape } from '../src/index.js';

const LLAMA: [string, unknown][] = [
  ['general.architecture', 'llama'],
  ['llama.context_length', 128],
  ['llama.embedding_length', 64],
  ['llama.block_count', 2],
  ['llama.feed_forward_length', 160],
  ['llama.attention.head_count', 4],
  ['llama.attention.head_count_kv', 2],
  ['llama.attention.layer_norm_rms_epsilon', 1e-5],
  ['llama.rope.dimension_count', 16],
  ['llama.vocab_size', 100],
];
const parse = (changes: Record<string, unknown> = {}, has: (name: string) => boolean = (n) => n !== 'rope_freqs.weight') => {
  const metadata = new Map(LLAMA);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
  }
  return parseGgufConfig(metadata, has);
};

describe('parseGgufConfig', () => {
  it('describes a Llama', () => {
    const a = parse();
    expect(a).toMatchObject({
      family: 'llama',
      layers: 2,
      headDim: 16,
      kvHeads: 2,
      vocab: 100,
      tied: false,
      rope: { theta: 10000, style: 'interleaved' },
    });
    expect(a.tensors).toMatchObject({ embedding: 'token_embd.weight', head: 'output.weight', finalNorm: 'output_norm.weight' });
    expect(a.sites[1]).toMatchObject({ name: 'model.layers.0.self_attn.k_proj', tensor: 'blk.0.attn_k.weight', input: 'layers.0.qkv' });
  });

  it('a file without output.weight is tied', () => {
    const a = parse({}, (n) => n !== 'output.weight' && n !== 'rope_freqs.weight');
    expect([a.tied, a.tensors.head]).toEqual([true, 'token_embd.weight']);
  });

  it('slices stacked experts', () => {
    const a = parse({ 'llama.expert_count': 4, 'llama.expert_used_count': 2 });
    expect(a).toMatchObject({ family: 'mixtral', moe: { experts: 4, topK: 2 } });
    const down = a.sites.find((s) => s.layer === 1 && s.expert === 3 && s.role === 'down')!;
    expect(down).toMatchObject({
      name: 'model.layers.1.block_sparse_moe.experts.3.w2',
      tensor: 'blk.1.ffn_down_exps.weight',
      slice: [192, 256],
      input: 'layers.1.experts.3.down',
    });
    expect(siteShape(a, down)).toEqual([64, 160]);
    expect(a.sites.find((s) => s.role === 'router')!.tensor).toBe('blk.0.ffn_gate_inp.weight');
  });

  it('takes 64-bit integers, the number of tokens for the vocabulary, an explicit key length', () => {
    expect(parse({ 'llama.context_length': 4096n }).context).toBe(4096);
    expect(parse({ 'llama.vocab_size': undefined, 'tokenizer.ggml.tokens': ['a', 'b', 'c'] }).vocab).toBe(3);
    const wide = { 'llama.attention.key_length': 32, 'llama.attention.value_length': 32, 'llama.rope.dimension_count': 32 };
    expect(parse(wide).headDim).toBe(32);
  });

  it.each([
    ['general.architecture', 'bert'],
    ['llama.rope.scaling.type', 'longrope'],
    ['llama.final_logit_softcapping', 30],
    ['llama.rope.dimension_count', 8],
    ['llama.attention.value_length', 32],
    ['llama.attention.sliding_window', 64],
  ])('refuses %s = %s by name', (key, value) => {
    const refused = () => parse({ [key]: value });
    expect(refused).toThrow(expect.objectContaining({ code: 'model/unsupported' }));
    expect(refused).toThrow(key);
  });

  it('takes the contents of rope_freqs.weight', () => {
    expect(() => parse({}, () => true)).toThrow(/rope_freqs/); // which were not given
    const withFactors = (...factors: number[]) => parseGgufConfig(new Map(LLAMA), () => true, factors).rope.scaling;
    expect(withFactors(1, 1, 1, 1, 2, 4, 8, 8)).toEqual({ type: 'factors', factors: [1, 1, 1, 1, 2, 4, 8, 8] });
    for (const bad of [[1], [1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, Number.NaN]])
      expect(() => withFactors(...bad)).toThrow(expect.objectContaining({ code: 'model/config' }));
  });

  it('reads scaled positions under new and old names', () => {
    expect(parse({ 'llama.rope.scale_linear': 4 }).rope.scaling).toEqual({ type: 'linear', factor: 4 });
    expect(parse({ 'llama.rope.scaling.factor': 4 }).rope.scaling).toEqual({ type: 'linear', factor: 4 });
    expect(parse({ 'llama.rope.scaling.factor': 4, 'llama.rope.scaling.type': 'none' }).rope.scaling).toBeUndefined();
    const yarn = { 'llama.rope.scaling.type': 'yarn', 'llama.rope.scaling.factor': 4, 'llama.rope.scaling.attn_factor': 0.5 };
    expect(parse(yarn).rope.scaling).toMatchObject({
      originalContext: 128,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      magnitude: 0.5 * (1 + 0.1 * Math.log(4)),
    });
  });

  it('knows what llama.cpp has fixed for Gemma 3', () => {
    const gemma = (layers: number, over: Record<string, unknown> = {}) => {
      const entries = LLAMA.slice(1).map(([key, value]) => [key.replace('llama.', 'gemma3.'), value] as [string, unknown]);
      const all = { 'general.architecture': 'gemma3', 'gemma3.block_count': layers, 'gemma3.attention.sliding_window': 32, ...over };
      return parseGgufConfig(new Map([...entries, ...Object.entries(all)]), (name) => name !== 'rope_freqs.weight');
    };
    const a = gemma(12);
    expect(a.attention.windows).toEqual([32, 32, 32, 32, 32, null, 32, 32, 32, 32, 32, null]);
    expect(a).toMatchObject({
      family: 'gemma3_text',
      embeddingScale: 8,
      norm: { plusOne: false },
      rope: { local: { theta: 10000 }, style: 'half' },
    });
    expect(a.attention.scale).toBe(1 / 4);
    expect(
      gemma(62, { 'gemma3.attention.key_length': 32, 'gemma3.attention.value_length': 32, 'gemma3.rope.dimension_count': 32 }).attention
        .scale,
    ).toBe(1 / 4); // 64 / 4 heads
    expect(gemma(4, { 'gemma3.attention.sliding_window_pattern': 2 }).attention.windows).toEqual([32, null, 32, null]);
  });

  it.each([
    ['llama.block_count', undefined],
    ['llama.block_count', -1],
    ['llama.block_count', 2n ** 60n],
    ['llama.attention.head_count', 0],
    ['llama.attention.head_count_kv', 3],
    ['llama.attention.layer_norm_rms_epsilon', Number.NaN],
    ['llama.embedding_length', 65],
    ['llama.rope.freq_base', -1],
  ])('refuses %s = %s', (key, value) => {
    expect(() => parse({ [key]: value })).toThrow(expect.objectContaining({ code: 'model/config' }));
  });
});
