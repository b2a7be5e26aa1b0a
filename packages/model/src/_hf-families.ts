/**
 * What `model_type` implies without config.json saying so: the defaults and fixed choices of Hugging Face transformers 5.17
 * (models/<family>/configuration_*.py and modeling_*.py), as data.
 * @module
 */

export interface HfFamily {
  /** The field that names the MLP's activation, and what its absence means. */
  activation: { field: string; fallback: string };
  /** `all`: every layer has `sliding_window`. `upper`: layers from `max_window_layers` on, when `use_sliding_window`. `pattern`: all but every n-th. */
  windows: 'none' | 'all' | 'upper' | 'pattern';
  /** `sliding_window` when the field is absent (null always means none). */
  window?: number;
  /** Which linears have a bias. `declared`: q, k, v, o by `attention_bias`, the MLP by `mlp_bias`. */
  biases: 'none' | 'qkv' | 'declared';
  theta: number;
  /** RoPE base of the layers with a window, where they have their own. */
  localTheta?: number;
  /** `head_dim` when absent; undefined: hidden_size / num_attention_heads. */
  headDim?: number;
  /** Whether an absent `num_key_value_heads` means one key head per query head. */
  kvHeadsOptional: boolean;
  tied: boolean;
  /** Norms of each head's queries and keys. */
  headNorms: boolean;
  /** Gemma: four norms per block with weights stored as differences from 1, scaled embeddings, `query_pre_attn_scalar`. */
  gemma: boolean;
  /** q, k, v in one tensor; gate and up in another; RoPE may turn part of each head. */
  fused: boolean;
  moe: boolean;
}

const BASE: HfFamily = {
  activation: { field: 'hidden_act', fallback: 'silu' },
  windows: 'none',
  biases: 'none',
  theta: 10000,
  kvHeadsOptional: false,
  tied: false,
  headNorms: false,
  gemma: false,
  fused: false,
  moe: false,
};

export const HF_FAMILIES: ReadonlyMap<unknown, HfFamily> = new Map<unknown, HfFamily>([
  ['llama', { ...BASE, biases: 'declared', kvHeadsOptional: true }],
  ['mistral', { ...BASE, windows: 'all', window: 4096 }],
  ['mixtral', { ...BASE, windows: 'all', theta: 1e6, moe: true }],
  ['qwen2', { ...BASE, windows: 'upper', window: 4096, biases: 'qkv' }],
  ['qwen3', { ...BASE, windows: 'upper', window: 4096, biases: 'declared', headDim: 128, headNorms: true }],
  [
    'gemma3_text',
    {
      ...BASE,
      activation: { field: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
      windows: 'pattern',
      window: 4096,
      biases: 'declared',
      theta: 1e6,
      localTheta: 10000,
      headDim: 256,
      tied: true,
      headNorms: true,
      gemma: true,
    },
  ],
  ['phi3', { ...BASE, windows: 'all', kvHeadsOptional: true, fused: true }],
]);
