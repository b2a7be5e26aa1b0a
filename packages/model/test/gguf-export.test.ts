import { memorySink, memorySource, openGguf, writeGguf } from '@lmq/checkpoints';
import { describe, expect, it } from 'vitest';
import { type Architecture, ggufModel, parseGgufConfig, parseHfConfig } from '../src/index.js';
import { readCase } from './_families.js';

const CONFIG = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  vocab_size: 8,
  tie_word_embeddings: true,
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
};
const architecture = (over: object = {}): Architecture => parseHfConfig({ ...CONFIG, ...over }, (name) => name !== 'lm_head.weight');
const family = (name: string, over: object = {}): Architecture => {
  const { config, tensors } = readCase(name);
  return parseHfConfig({ ...config, ...over }, (tensor) => Object.hasOwn(tensors, tensor));
};
const model = (a: Architecture, opts = {}) => ggufModel(a, { fileType: 'f16', ...opts });
const values = (a: Architecture, opts = {}) => Object.fromEntries(model(a, opts).metadata.map((e) => [e.key, e.value]));
const refused = { code: 'export/unsupported' };

describe('ggufModel: key-values', () => {
  it('are those that llama.cpp needs', () => {
    expect(values(architecture(), { name: 'nano', fileType: 'q4_k_m' })).toEqual({
      'general.architecture': 'llama',
      'general.type': 'model',
      'general.name': 'nano',
      'general.file_type': 15,
      'general.quantization_version': 2,
      'llama.context_length': 512,
      'llama.embedding_length': 64,
      'llama.block_count': 2,
      'llama.feed_forward_length': 128,
      'llama.attention.head_count': 4,
      'llama.attention.head_count_kv': 2,
      'llama.attention.key_length': 16,
      'llama.attention.value_length': 16,
      'llama.attention.layer_norm_rms_epsilon': 1e-5,
      'llama.rope.dimension_count': 16,
      'llama.rope.freq_base': 10000,
      'llama.vocab_size': 8,
    });
    expect('general.quantization_version' in values(architecture(), { fileType: 'bf16' })).toBe(false);
  });

  it('have types that a GGUF file holds', async () => {
    const { metadata } = model(family('gemma3-linear'));
    const sink = memorySink();
    await writeGguf(sink, { metadata, tensors: [] });
    const { entries } = await openGguf(memorySource(sink.bytes(), 'x'));
    expect(entries.map((e) => [e.key, e.type])).toEqual(metadata.map((e) => [e.key, e.type]));
  });

  it('say how positions are scaled', () => {
    expect(values(family('llama-linear-biases'))).toMatchObject({ 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4 });
    const yarn = values(family('llama-yarn'));
    expect(yarn).toMatchObject({
      'llama.rope.scaling.type': 'yarn',
      'llama.rope.scaling.factor': 4,
      'llama.rope.scaling.original_context_length': 64,
    });
    expect('llama.rope.scaling.attn_factor' in yarn).toBe(false); // llama.cpp has 1 + 0.1 ln 4 of its own
    const factor = values(family('llama-yarn-factor'));
    expect(factor['llama.rope.scaling.attn_factor']).toBeCloseTo(1.25 / (1 + 0.1 * Math.log(4)), 10);
    expect(factor['llama.rope.scaling.yarn_beta_fast']).toBe(4);
    const { extra } = model(family('llama3'));
    expect(extra.map((e) => [e.name, e.data.length])).toEqual([['rope_freqs.weight', 8]]);
    expect(extra[0]!.data[0]).toBe(1); // the fastest pair keeps its frequency
    expect(extra[0]!.data[7]).toBeCloseTo(8, 4);
  });

  it('say where windows are, and bound the context where llama.cpp has none', () => {
    expect(values(family('gemma3'))).toMatchObject({
      'gemma3.attention.sliding_window': 8,
      'gemma3.attention.sliding_window_pattern': 2,
      'gemma3.context_length': 256,
    });
    expect(model(family('gemma3')).notes).toEqual([expect.stringMatching(/sliding_window_pattern \(2\)/)]);
    expect(values(family('mistral'))['llama.context_length']).toBe(8);
    expect(model(family('qwen2')).notes).toEqual([expect.stringMatching(/given as 8 instead of 256/)]);
    expect(values(family('phi3'))).toMatchObject({ 'phi3.attention.sliding_window': 8, 'phi3.context_length': 256 });
    expect(model(family('phi3')).notes).toEqual([expect.stringMatching(/beyond that many/)]);
    expect(values(family('phi3-partial'))).toMatchObject({ 'phi3.attention.sliding_window': 0, 'phi3.rope.dimension_count': 4 });
  });

  it('come back as the same architecture', () => {
    for (const name of ['llama-linear-biases', 'llama-yarn', 'qwen3', 'phi3', 'phi3-partial']) {
      const a = family(name);
      const { metadata, place } = model(a);
      const places = [...a.sites.flatMap((s) => [s.tensor, ...(s.bias ? [s.bias] : [])]), ...Object.values(a.tensors).flat()].map((t) =>
        place(t),
      );
      const names = new Set(places.map((p) => (p && 'name' in p ? p.name : '')));
      const back = parseGgufConfig(new Map(metadata.map((e) => [e.key, e.value])), (t) => names.has(t));
      expect({ ...back, rope: { ...back.rope, style: 'half' } }, name).toMatchObject({
        family: a.family,
        context: a.context,
        tied: a.tied,
        attention: a.attention,
        mlp: a.mlp,
        rope: { ...a.rope, ...(a.rope.scaling && { scaling: expect.objectContaining({ type: a.rope.scaling.type, factor: 4 }) }) },
      });
      expect(back.sites.map((s) => [s.name, s.bias !== undefined, s.slice])).toEqual(
        a.sites.map((s) => [s.name, s.bias !== undefined, s.slice]),
      );
    }
  });

  it('warn of a factor of the embeddings that llama.cpp does not round', () => {
    expect(model(family('gemma3', { dtype: 'bfloat16' })).notes.join()).toMatch(/multiplies embeddings with 5\.65.*original with 5\.65/);
  });
});

describe('ggufModel: what llama.cpp would compute otherwise', () => {
  it.each<[string, () => Architecture]>([
    ['an unknown family', () => ({ ...architecture(), family: 'bloom' })],
    ['biases in a family that has none', () => ({ ...family('qwen3'), sites: family('qwen3').sites.map((s) => ({ ...s, bias: 'b' })) })],
    ['another factor of the scores', () => ({ ...architecture(), attention: { ...architecture().attention, scale: 1 } })],
    ['another activation', () => ({ ...architecture(), mlp: { ...architecture().mlp, activation: 'gelu-tanh' } })],
    ['factors of RoPE in qwen3', () => ({ ...family('qwen3'), rope: family('llama3').rope })],
    ['windows without a pattern', () => ({ ...family('gemma3'), attention: { scale: 1, windows: [8, null, null, 8] } })],
  ])('refuses %s', (_, make) => {
    expect(() => model(make())).toThrow(expect.objectContaining(refused));
  });
});

describe('ggufModel: places of tensors', () => {
  it('follow llama.cpp, with permuted queries and keys', () => {
    const { place } = model(architecture({ attention_bias: true }));
    const places = {
      'model.embed_tokens.weight': { name: 'token_embd.weight' },
      'model.norm.weight': { name: 'output_norm.weight' },
      'lm_head.weight': null,
      'model.layers.1.input_layernorm.weight': { name: 'blk.1.attn_norm.weight' },
      'model.layers.1.post_attention_layernorm.weight': { name: 'blk.1.ffn_norm.weight' },
      'model.layers.1.self_attn.q_proj.weight': { name: 'blk.1.attn_q.weight', permuteHeads: 4 },
      'model.layers.1.self_attn.k_proj.weight': { name: 'blk.1.attn_k.weight', permuteHeads: 2 },
      'model.layers.1.self_attn.k_proj.bias': { name: 'blk.1.attn_k.bias', permuteHeads: 2 },
      'model.layers.1.self_attn.v_proj.weight': { name: 'blk.1.attn_v.weight' },
      'model.layers.1.self_attn.o_proj.weight': { name: 'blk.1.attn_output.weight' },
      'model.layers.0.mlp.gate_proj.weight': { name: 'blk.0.ffn_gate.weight' },
      'model.layers.0.mlp.up_proj.weight': { name: 'blk.0.ffn_up.weight' },
      'model.layers.0.mlp.down_proj.weight': { name: 'blk.0.ffn_down.weight' },
      'model.layers.0.self_attn.rotary_emb.inv_freq': null,
    };
    for (const [name, want] of Object.entries(places)) expect(place(name), name).toEqual(want);
  });

  it('of other families: not permuted, fused, with more norms, of which 1 is added', () => {
    expect(model(family('qwen2')).place('model.layers.0.self_attn.q_proj.bias')).toEqual({ name: 'blk.0.attn_q.bias' });
    const phi = model(family('phi3')).place;
    expect(phi('model.layers.1.self_attn.qkv_proj.weight')).toEqual({ name: 'blk.1.attn_qkv.weight' });
    expect(phi('model.layers.1.mlp.gate_up_proj.weight')).toEqual({ name: 'blk.1.ffn_up.weight' });
    const gemma = model(family('gemma3')).place;
    expect(gemma('model.layers.0.post_attention_layernorm.weight')).toEqual({ name: 'blk.0.post_attention_norm.weight', add: 1 });
    expect(gemma('model.layers.0.post_feedforward_layernorm.weight')).toEqual({ name: 'blk.0.post_ffw_norm.weight', add: 1 });
    // scores are scaled by 24^-1/2 there and by 16^-1/2 in llama.cpp
    expect(gemma('model.layers.0.self_attn.q_norm.weight')).toEqual({
      name: 'blk.0.attn_q_norm.weight',
      add: 1,
      scale: expect.closeTo(Math.sqrt(16 / 24), 12),
    });
    expect(gemma('model.layers.0.self_attn.k_norm.weight')).toEqual({ name: 'blk.0.attn_k_norm.weight', add: 1 });
  });

  it('write an untied head', () => {
    expect(model(family('llama3')).place('lm_head.weight')).toEqual({ name: 'output.weight' });
  });

  it('stack experts', () => {
    const a = family('mixtral');
    const { place } = model(a);
    expect(values(a)).toMatchObject({ 'general.architecture': 'llama', 'llama.expert_count': 4, 'llama.expert_used_count': 2 });
    expect(place('model.layers.1.block_sparse_moe.gate.weight')).toEqual({ name: 'blk.1.ffn_gate_inp.weight' });
    expect(place('model.layers.1.block_sparse_moe.experts.3.w1.weight')).toEqual({ stack: 'blk.1.ffn_gate_exps.weight', expert: 3 });
    expect(place('model.layers.1.block_sparse_moe.experts.0.w2.weight')).toEqual({ stack: 'blk.1.ffn_down_exps.weight', expert: 0 });
    expect(place('model.layers.1.block_sparse_moe.experts.0.w3.weight')).toEqual({ stack: 'blk.1.ffn_up_exps.weight', expert: 0 });
  });

  it.each([
    'model.layers.2.input_layernorm.weight', // there are two layers
    'model.layers.2.self_attn.rotary_emb.inv_freq',
    'model.layers.0.block_sparse_moe.experts.0.w1.weight',
    'model.layers.0.self_attn.q_norm.weight',
    'model.layers.0.self_attn.q_proj.weight_scale',
    'model.layers.-1.input_layernorm.weight',
    'transformer.wte.weight',
    'constructor',
    '',
  ])('refuse %j', (name) => {
    expect(() => model(architecture()).place(name)).toThrow(expect.objectContaining(refused));
  });
});
