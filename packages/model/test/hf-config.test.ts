import { describe, expect, it } from 'vitest';
import { parseHfConfig, siteShape } from '../src/index.js';

const LLAMA = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 100,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
};
const MIXTRAL = { ...LLAMA, model_type: 'mixtral', num_local_experts: 4, num_experts_per_tok: 2, rope_theta: 1e6 };
const all = () => true;
const untied = (name: string) => !/bias/.test(name);

describe('parseHfConfig', () => {
  it('describes a Llama', () => {
    const a = parseHfConfig(LLAMA, untied);
    expect(a).toMatchObject({
      family: 'llama',
      layers: 2,
      headDim: 16,
      kvHeads: 2,
      tied: false,
      rope: { theta: 10000, style: 'half' },
      warnings: [],
    });
    expect(a.moe).toBeUndefined();
    expect(a.sites.length).toBe(14);
    expect(a.sites[0]).toEqual({
      name: 'model.layers.0.self_attn.q_proj',
      layer: 0,
      role: 'q',
      tensor: 'model.layers.0.self_attn.q_proj.weight',
      input: 'layers.0.qkv',
    });
    const shapes = Object.fromEntries(a.sites.slice(0, 7).map((s) => [s.role, siteShape(a, s)]));
    expect(shapes).toEqual({ q: [64, 64], k: [32, 64], v: [32, 64], o: [64, 64], gate: [160, 64], up: [160, 64], down: [64, 160] });
    expect(JSON.parse(JSON.stringify(a))).toEqual(a);
  });

  it('describes a Mixtral', () => {
    const a = parseHfConfig(MIXTRAL, untied);
    expect(a.moe).toEqual({ experts: 4, topK: 2 });
    expect(a.rope.theta).toBe(1e6);
    const layer = a.sites.filter((s) => s.layer === 1);
    expect(layer.length).toBe(4 + 1 + 12);
    expect(layer[4]).toMatchObject({ role: 'router', tensor: 'model.layers.1.block_sparse_moe.gate.weight', input: 'layers.1.moe' });
    expect(layer[16]).toMatchObject({
      role: 'down',
      expert: 3,
      tensor: 'model.layers.1.block_sparse_moe.experts.3.w2.weight',
      input: 'layers.1.experts.3.down',
    });
    expect(siteShape(a, layer[4]!)).toEqual([4, 64]);
  });

  it('reads RoPE in both spellings', () => {
    const theta = (c: object) => parseHfConfig({ ...LLAMA, ...c }, untied).rope.theta;
    expect(theta({ rope_theta: 5e5, rope_scaling: null })).toBe(5e5);
    expect(theta({ rope_parameters: { rope_theta: 7e5, rope_type: 'default' } })).toBe(7e5);
    expect(theta({ rope_parameters: { rope_type: 'default' }, rope_theta: 3e4 })).toBe(3e4);
  });

  it('takes an explicit head size, null meaning hidden / heads', () => {
    expect(parseHfConfig({ ...LLAMA, head_dim: 32 }, untied).headDim).toBe(32);
    expect(parseHfConfig({ ...LLAMA, head_dim: null }, untied).headDim).toBe(16);
    expect(parseHfConfig({ ...LLAMA, hidden_size: 66, head_dim: 16 }, untied).headDim).toBe(16);
  });

  it('a declared tie wins over a stray head, with a warning', () => {
    const a = parseHfConfig({ ...LLAMA, tie_word_embeddings: true }, all);
    expect(a.tensors.head).toBe('model.embed_tokens.weight');
    expect(a.warnings).toEqual([expect.stringMatching(/lm_head\.weight is not used/)]);
    expect(parseHfConfig({ ...LLAMA, tie_word_embeddings: true }, (n) => n !== 'lm_head.weight').warnings).toEqual([]);
    const only = parseHfConfig({ ...LLAMA, tie_word_embeddings: true }, (n) => n !== 'model.embed_tokens.weight');
    expect(only.tensors).toMatchObject({ embedding: 'lm_head.weight', head: 'lm_head.weight' });
  });

  it('runs a Mistral whose window covers the context', () => {
    const mistral = { ...LLAMA, model_type: 'mistral', sliding_window: 128 };
    expect(parseHfConfig(mistral, untied).family).toBe('mistral');
    expect(() => parseHfConfig({ ...mistral, sliding_window: 127 }, untied)).toThrow(/sliding_window.*128.*127.*max_position_embeddings/s);
  });

  it.each([
    ['model_type', { model_type: 'qwen2' }, /llama, mistral, mixtral.*qwen2/],
    ['hidden_act', { hidden_act: 'gelu' }, /silu.*gelu/],
    ['attention_bias', { attention_bias: true }, /false.*true/],
    ['mlp_bias', { mlp_bias: true }, /false.*true/],
    ['rope_scaling.rope_type', { rope_scaling: { rope_type: 'llama3', factor: 8 } }, /default.*llama3/],
    ['rope_scaling.type', { rope_scaling: { type: 'linear', factor: 2 } }, /default.*linear/],
    ['rope_parameters.rope_type', { rope_parameters: { rope_type: 'yarn', rope_theta: 1e4 } }, /default.*yarn/],
    ['partial_rotary_factor', { partial_rotary_factor: 0.5 }, /1.*0.5/],
    ['quantization_config', { quantization_config: { quant_method: 'gptq' } }, /unquantized.*gptq/],
  ])('refuses %s by name', (field, change, message) => {
    const parse = () => parseHfConfig({ ...LLAMA, ...change }, untied);
    expect(parse).toThrow(expect.objectContaining({ code: 'model/unsupported' }));
    expect(parse).toThrow(message);
    expect(parse).toThrow(field);
  });

  it.each([
    ['hidden_size', 0],
    ['hidden_size', '64'],
    ['hidden_size', 64.5],
    ['hidden_size', 2 ** 60],
    ['hidden_size', undefined],
    ['hidden_size', 63],
    ['num_hidden_layers', 1e9],
    ['num_key_value_heads', 3],
    ['num_key_value_heads', 8],
    ['head_dim', 15],
    ['vocab_size', -1],
    ['rms_norm_eps', 0],
    ['rms_norm_eps', null],
    ['tie_word_embeddings', 'yes'],
    ['rope_theta', Number.NaN],
    ['rope_scaling', 'default'],
  ])('refuses %s = %s', (field, value) => {
    expect(() => parseHfConfig({ ...LLAMA, [field]: value }, untied)).toThrow(expect.objectContaining({ code: 'model/config' }));
  });

  it('refuses more experts per token than experts', () => {
    expect(() => parseHfConfig({ ...MIXTRAL, num_experts_per_tok: 5 }, untied)).toThrow(expect.objectContaining({ code: 'model/config' }));
  });

  it('refuses what is not an object, and never reads a prototype', () => {
    for (const bad of [null, 3, 'x', [LLAMA]])
      expect(() => parseHfConfig(bad, untied)).toThrow(expect.objectContaining({ code: 'model/config' }));
    expect(() => parseHfConfig(Object.create(LLAMA), untied)).toThrow(expect.objectContaining({ code: 'model/unsupported' }));
  });

  it('names the first missing tensor', () => {
    const missing = (gone: string) => () => parseHfConfig(LLAMA, (n) => n !== gone);
    for (const name of [
      'lm_head.weight',
      'model.norm.weight',
      'model.layers.1.mlp.up_proj.weight',
      'model.layers.0.input_layernorm.weight',
    ]) {
      expect(missing(name)).toThrow(expect.objectContaining({ code: 'model/missing', facts: expect.objectContaining({ tensor: name }) }));
    }
  });
});
