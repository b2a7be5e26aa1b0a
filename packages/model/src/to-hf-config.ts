/**
 * The way back from an {@link Architecture} to Hugging Face's `config.json`, for models that came in another format.
 * @module
 */
import { type FloatFormat, LmqError } from '@lmq/tensor';
import { HF_FAMILIES } from './_hf-families.js';
import { shortest } from './_shortest.js';
import { hfRope } from './_to-hf-rope.js';
import type { Architecture, Role } from './api.js';

const CLASSES: ReadonlyMap<string, string> = new Map([
  ['llama', 'LlamaForCausalLM'],
  ['mistral', 'MistralForCausalLM'],
  ['mixtral', 'MixtralForCausalLM'],
  ['qwen2', 'Qwen2ForCausalLM'],
  ['qwen3', 'Qwen3ForCausalLM'],
  ['gemma3_text', 'Gemma3ForCausalLM'],
  ['phi3', 'Phi3ForCausalLM'],
]);

const DTYPES: Record<FloatFormat, string> = { fp32: 'float32', fp16: 'float16', bf16: 'bfloat16' };
const ACTIVATIONS: Record<Architecture['mlp']['activation'], string> = { silu: 'silu', 'gelu-tanh': 'gelu_pytorch_tanh' };

export interface ToHfConfigOpts {
  /** Number format that the model computes in. */
  dtype: FloatFormat;
  /** Ids of the begin token, and of the end tokens. */
  bos?: number;
  eos?: readonly number[];
}

/**
 * The contents of a `config.json` that `parseHfConfig` and transformers read as this architecture. Weights are taken to be in Hugging Face's
 * order and meaning, whatever `rope.style` and `norm.plusOne` say. In Gemma, what embeddings are multiplied with follows from `dtype`.
 * @throws LmqError `export/unsupported` for a family, or a feature of one, that `config.json` has no words for
 */
export function toHfConfig(a: Architecture, { dtype, bos, eos = [] }: ToHfConfigOpts): Record<string, unknown> {
  const family = HF_FAMILIES.get(a.family);
  if (!family) return refuse('config.json cannot be made for this family', a.family);
  return {
    architectures: [CLASSES.get(a.family)],
    model_type: a.family,
    hidden_size: a.hidden,
    intermediate_size: a.mlp.intermediate,
    num_hidden_layers: a.layers,
    num_attention_heads: a.heads,
    num_key_value_heads: a.kvHeads,
    head_dim: a.headDim,
    [family.activation.field]: ACTIVATIONS[a.mlp.activation],
    vocab_size: a.vocab,
    max_position_embeddings: a.context,
    rms_norm_eps: shortest(a.norm.eps),
    ...hfRope(a, refuse),
    tie_word_embeddings: a.tied,
    ...(a.moe && { num_local_experts: a.moe.experts, num_experts_per_tok: a.moe.topK }),
    ...(family.gemma && { query_pre_attn_scalar: Math.round(a.attention.scale ** -2) }),
    ...windowFields(a),
    ...biasFields(a),
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(eos.length && { eos_token_id: eos.length > 1 ? [...eos] : eos[0] }),
    ...(family.fused && { pad_token_id: null }), // absent, it is 32000, which small vocabularies do not have
    torch_dtype: DTYPES[dtype],
  };
}

function windowFields({ family, attention: { windows } }: Architecture): Record<string, unknown> {
  const window = windows.find((w) => w !== null) ?? null;
  const kind = HF_FAMILIES.get(family)!.windows;
  switch (kind) {
    case 'none':
      return window === null ? {} : refuse('config.json cannot say that attention has a window in this family', window);
    case 'all':
      return windows.every((w) => w === window) ? { sliding_window: window } : refuse('windows differ from layer to layer', family);
    default:
      return {
        ...(kind === 'upper' && { use_sliding_window: window !== null }),
        sliding_window: window,
        layer_types: windows.map((w) => (w === null ? 'full_attention' : 'sliding_attention')),
      };
  }
}

/** Whether linears have a bias, which config.json says of attention and of the MLP as wholes, or not at all. */
function biasFields({ family, moe, sites }: Architecture): Record<string, unknown> {
  const biased = (roles: readonly Role[]): boolean => {
    const these = sites.filter((s) => roles.some((role) => role === s.role));
    const some = these.some((s) => s.bias !== undefined);
    return some && (moe || these.some((s) => s.bias === undefined))
      ? refuse('config.json cannot say which linears have a bias', 'some have')
      : some;
  };
  const { biases } = HF_FAMILIES.get(family)!;
  if (biases === 'qkv') {
    if (biased(['q', 'k', 'v']) && !biased(['o', 'gate', 'up', 'down'])) return {};
    return refuse('queries, keys and values have a bias in this family, and no others', family);
  }
  const [attention, mlp] = [biased(['q', 'k', 'v', 'o']), biased(['gate', 'up', 'down'])];
  if (biases === 'none' && (attention || mlp)) refuse('linears have no bias in this family', family);
  if (mlp && family !== 'llama') refuse('linears of the MLP have no bias in this family', family);
  return biases === 'none' ? {} : { attention_bias: attention, ...(family === 'llama' && { mlp_bias: mlp }) };
}

function refuse(what: string, found: unknown): never {
  throw new LmqError('export/unsupported', what, {
    op: 'toHfConfig',
    found,
    hint: "Take config.json from the original model's folder.",
  });
}
