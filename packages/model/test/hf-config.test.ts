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

  const QWEN = { ...LLAMA, model_type: 'qwen2', num_hidden_layers: 4, sliding_window: 16, use_sliding_window: true, max_window_layers: 3 };
  const GEMMA = { ...LLAMA, model_type: 'gemma3_text', num_hidden_layers: 7, head_dim: 16, sliding_window: 32 };
  const windows = (config: object) => parseHfConfig(config, () => true).attention.windows;

  it('reads sliding windows as each family means them', () => {
    expect(windows({ ...LLAMA, model_type: 'mistral', sliding_window: 8 })).toEqual([8, 8]);
    expect(windows({ ...LLAMA, model_type: 'mistral', sliding_window: null })).toEqual([null, null]);
    expect(windows({ ...LLAMA, model_type: 'mistral' })).toEqual([4096, 4096]);
    expect(windows(MIXTRAL)).toEqual([null, null]);
    expect(windows({ ...LLAMA, model_type: 'phi3', sliding_window: 9 })).toEqual([9, 9]);
    expect(windows(QWEN)).toEqual([null, null, null, 16]);
    expect(windows({ ...QWEN, use_sliding_window: false })).toEqual([null, null, null, null]);
    expect(windows({ ...QWEN, layer_types: ['sliding_attention', 'full_attention', 'full_attention', 'full_attention'] })[0]).toBe(16);
    expect(windows(GEMMA)).toEqual([32, 32, 32, 32, 32, null, 32]);
    expect(windows({ ...GEMMA, sliding_window_pattern: 2 })).toEqual([32, null, 32, null, 32, null, 32]);
    expect(windows({ ...LLAMA, sliding_window: 128 })).toEqual([null, null]); // Llama has none; this one would hide nothing
  });

  it.each([
    ['model/unsupported', { ...LLAMA, sliding_window: 127 }, /sliding_window.*128.*127/s],
    [
      'model/unsupported',
      { ...LLAMA, model_type: 'mistral', sliding_window: 8, layer_types: ['full_attention', 'sliding_attention'] },
      /layer_types/,
    ],
    ['model/unsupported', { ...GEMMA, layer_types: Array(7).fill('chunked_attention') }, /layer_types.*chunked_attention/s],
    ['model/config', { ...GEMMA, layer_types: ['full_attention'] }, /layer_types.*list of 7/s],
    ['model/config', { ...QWEN, sliding_window: null, layer_types: Array(4).fill('sliding_attention') }, /unknown size/],
    ['model/config', { ...QWEN, sliding_window: 0 }, /sliding_window/],
  ])('refuses windows that it cannot run: %s', (code, config, message) => {
    expect(() => parseHfConfig(config, () => true)).toThrow(expect.objectContaining({ code }));
    expect(() => parseHfConfig(config, () => true)).toThrow(message);
  });

  it('rounds the scale of the embeddings as the model does', () => {
    const scale = (c: object) => parseHfConfig({ ...GEMMA, hidden_size: 3072, ...c }, () => true).embeddingScale;
    expect(scale({ torch_dtype: 'bfloat16' })).toBe(55.5); // sqrt(3072) = 55.4256; bfloat16 has steps of 1/4 here
    expect(scale({ dtype: 'float32' })).toBe(Math.fround(Math.sqrt(3072)));
    expect(() => scale({ dtype: 'float64' })).toThrow(/dtype.*float64/s);
    expect(parseHfConfig(LLAMA, untied).embeddingScale).toBeUndefined();
  });

  it('finds the parts of fused tensors', () => {
    const a = parseHfConfig({ ...LLAMA, model_type: 'phi3' }, (n) => /qkv|gate_up|o_proj|down|norm|embed|head/.test(n));
    const parts = Object.fromEntries(a.sites.slice(0, 7).map((s) => [s.role, [s.tensor.split('.').at(-2), s.slice]]));
    expect(parts).toEqual({
      q: ['qkv_proj', [0, 64]],
      k: ['qkv_proj', [64, 96]],
      v: ['qkv_proj', [96, 128]],
      o: ['o_proj', undefined],
      gate: ['gate_up_proj', [0, 160]],
      up: ['gate_up_proj', [160, 320]],
      down: ['down_proj', undefined],
    });
  });

  it('names the biases and norms that a family has', () => {
    const qwen = parseHfConfig({ ...QWEN, sliding_window: null }, () => true);
    expect(qwen.sites.slice(0, 7).map((s) => s.bias?.split('.').at(-2))).toEqual([
      'q_proj',
      'k_proj',
      'v_proj',
      ...Array(4).fill(undefined),
    ]);
    expect(qwen.tensors.queryNorm).toBeUndefined();
    const gemma = parseHfConfig(GEMMA, () => true);
    expect(gemma.norm.plusOne).toBe(true);
    expect(gemma.tensors.mlpNorm[3]).toBe('model.layers.3.pre_feedforward_layernorm.weight');
    expect(gemma.tensors.attentionPostNorm![3]).toBe('model.layers.3.post_attention_layernorm.weight');
    expect(gemma.tensors.keyNorm!.length).toBe(7);
    expect(() => parseHfConfig(QWEN, untied)).toThrow(/q_proj\.bias/);
  });

  it('reads scaled RoPE with the defaults of its kind', () => {
    const scaling = (rope_scaling: object, more: object = {}) => parseHfConfig({ ...LLAMA, ...more, rope_scaling }, untied).rope.scaling;
    expect(scaling({ type: 'linear', factor: 2 })).toEqual({ type: 'linear', factor: 2 });
    expect(scaling({ rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 })).toEqual({
      type: 'llama3',
      factor: 8,
      lowFrequency: 1,
      highFrequency: 4,
      originalContext: 128, // max_position_embeddings
    });
    expect(scaling({ rope_type: 'yarn', original_max_position_embeddings: 32 })).toEqual({
      type: 'yarn',
      factor: 4, // 128 / 32
      originalContext: 32,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      magnitude: 0.1 * Math.log(4) + 1,
    });
    expect(scaling({ type: 'yarn', factor: 2 }, { original_max_position_embeddings: 64 })).toMatchObject({ originalContext: 64 });
    expect(scaling({})).toBeUndefined();
    const context = (rope_scaling: object) => parseHfConfig({ ...LLAMA, rope_scaling }, untied).context;
    expect(context({ type: 'yarn', factor: 4 })).toBe(512); // four times what the configuration says
    expect(context({ type: 'yarn', factor: 4, original_max_position_embeddings: 16 })).toBe(128);
    expect(context({ type: 'linear', factor: 4 })).toBe(128);
  });

  it.each([
    ['model_type', { model_type: 'gemma2' }, /llama, mistral, mixtral.*gemma2/],
    ['hidden_act', { hidden_act: 'gelu' }, /silu.*gelu/],
    ['attention_bias', { model_type: 'mistral', attention_bias: true }, /false.*true/],
    ['mlp_bias', { model_type: 'qwen3', mlp_bias: true }, /false.*true/],
    ['rope_scaling.rope_type', { rope_scaling: { rope_type: 'longrope', factor: 8 } }, /linear, llama3, yarn.*longrope/],
    ['rope_scaling.rope_type', { rope_scaling: { type: 'dynamic', factor: 2 } }, /linear, llama3, yarn.*dynamic/],
    ['rope_parameters.rope_type', { model_type: 'phi3', rope_parameters: { rope_type: 'yarn', factor: 2 } }, /default.*yarn/],
    ['rope_scaling.mrope_section', { rope_scaling: { rope_type: 'default', mrope_section: [1] } }, /no such field/],
    ['rope_parameters.rope_theta', { model_type: 'gemma3_text', rope_parameters: { rope_theta: 1e4 } }, /full_attention/],
    ['rope_parameters.partial_rotary_factor', { rope_parameters: { partial_rotary_factor: 0.5 } }, /1.*0.5/],
    ['attn_logit_softcapping', { attn_logit_softcapping: 50 }, /nothing.*50/],
    ['final_logit_softcapping', { model_type: 'gemma3_text', final_logit_softcapping: 30 }, /nothing.*30/],
    ['use_bidirectional_attention', { model_type: 'gemma3_text', use_bidirectional_attention: true }, /false.*true/],
    ['hidden_activation', { model_type: 'gemma3_text', hidden_activation: 'relu' }, /gelu_pytorch_tanh.*relu/],
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
    ['rope_scaling', { rope_type: 'linear' }],
    ['rope_scaling', { rope_type: 'linear', factor: '2' }],
    ['rope_scaling', { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 }],
    ['rope_scaling', { rope_type: 'yarn', factor: 4, beta_fast: 1, beta_slow: 2 }],
    ['rope_scaling', { rope_type: 'yarn', factor: 4, attention_factor: -1 }],
    ['rope_scaling', { rope_type: 'yarn', factor: 4, rope_theta: 1 }],
  ])('refuses %s = %o', (field, value) => {
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
