// Hugging Face folders of small models with random weights and lmq-nano's tokenizer, of any family.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memorySink, writeSafetensors } from '../packages/checkpoints/dist/index.js';
import { createRng } from '../packages/tensor/dist/index.js';

const NANO = new URL('../packages/nano/models/lmq-nano/', import.meta.url).pathname;

/** Shapes of a family's tensors. */
function shapesOf(c) {
  const { hidden_size: h, intermediate_size: ff, model_type: family, num_attention_heads: heads, num_key_value_heads: kvHeads } = c;
  const dim = c.head_dim ?? h / heads;
  const [q, kv] = [heads * dim, kvHeads * dim];
  const t = { 'model.embed_tokens.weight': [c.vocab_size, h], 'model.norm.weight': [h] };
  if (!c.tie_word_embeddings) t['lm_head.weight'] = [c.vocab_size, h];
  for (let l = 0; l < c.num_hidden_layers; l++) {
    const at = `model.layers.${l}.`;
    const norms = ['input_layernorm', 'post_attention_layernorm'];
    if (family === 'gemma3_text') norms.push('pre_feedforward_layernorm', 'post_feedforward_layernorm');
    for (const n of norms) t[`${at}${n}.weight`] = [h];
    if (family === 'qwen3' || family === 'gemma3_text') for (const n of ['q_norm', 'k_norm']) t[`${at}self_attn.${n}.weight`] = [dim];
    if (family === 'phi3') t[`${at}self_attn.qkv_proj.weight`] = [q + 2 * kv, h];
    else {
      for (const [n, rows] of Object.entries({ q, k: kv, v: kv })) {
        t[`${at}self_attn.${n}_proj.weight`] = [rows, h];
        if (family === 'qwen2' || c.attention_bias) t[`${at}self_attn.${n}_proj.bias`] = [rows];
      }
    }
    t[`${at}self_attn.o_proj.weight`] = [h, q];
    if (c.attention_bias) t[`${at}self_attn.o_proj.bias`] = [h];
    if (family === 'mixtral') {
      t[`${at}block_sparse_moe.gate.weight`] = [c.num_local_experts, h];
      for (let e = 0; e < c.num_local_experts; e++)
        for (const n of ['w1', 'w2', 'w3']) t[`${at}block_sparse_moe.experts.${e}.${n}.weight`] = n === 'w2' ? [h, ff] : [ff, h];
    } else if (family === 'phi3') {
      t[`${at}mlp.gate_up_proj.weight`] = [2 * ff, h];
      t[`${at}mlp.down_proj.weight`] = [h, ff];
    } else for (const n of ['gate', 'up', 'down']) t[`${at}mlp.${n}_proj.weight`] = n === 'down' ? [h, ff] : [ff, h];
  }
  return t;
}

/** Uniform numbers of variance 1 / width, which keeps activations in range; norms about 1, or 0 where 1 is added. */
function valuesOf(name, shape, family, rng) {
  const n = shape.reduce((a, b) => a * b, 1);
  const spread = shape.length === 1 ? 0.25 : Math.sqrt(3 / shape.at(-1)) * (name.includes('embed') ? 8 : 1);
  const base = name.includes('norm') && family !== 'gemma3_text' ? 1 : 0;
  return Float32Array.from({ length: n }, () => base + (2 * rng.u32() * 2 ** -32 - 1) * spread);
}

/** Writes the folder. */
export async function writeSynthetic(folder, config, seed = 1) {
  mkdirSync(folder, { recursive: true });
  const rng = createRng(seed);
  const tensors = Object.entries(shapesOf(config)).map(([name, shape]) => {
    const values = valuesOf(name, shape, config.model_type, rng);
    return { name, shape, dtype: 'F32', bytes: () => new Uint8Array(values.buffer) };
  });
  const sink = memorySink();
  await writeSafetensors(sink, tensors, { format: 'pt' });
  writeFileSync(join(folder, 'model.safetensors'), sink.bytes());
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
    copyFileSync(join(NANO, file), join(folder, file));
}

export const LLAMA = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 32,
  vocab_size: 2048,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 0,
  dtype: 'float32',
};
