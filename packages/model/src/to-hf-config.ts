/**
 * The way back from an {@link Architecture} to Hugging Face's `config.json`, for models that came in another format.
 * @module
 */
import { type FloatFormat, LmqError } from '@lmq/tensor';
import type { Architecture } from './api.js';

const CLASSES: ReadonlyMap<string, string> = new Map([
  ['llama', 'LlamaForCausalLM'],
  ['mixtral', 'MixtralForCausalLM'],
]);

const DTYPES: Record<FloatFormat, string> = { fp32: 'float32', fp16: 'float16', bf16: 'bfloat16' };

export interface ToHfConfigOpts {
  /** Number format that the model computes in. */
  dtype: FloatFormat;
  /** Ids of the begin token, and of the end tokens. */
  bos?: number;
  eos?: readonly number[];
}

/**
 * The contents of a `config.json` that `parseHfConfig` and transformers read as this architecture. Weights are taken to be in Hugging Face's
 * order, whatever `rope.style` says.
 * @throws LmqError `export/unsupported` for a family, or a feature of one, that is not written
 */
export function toHfConfig(a: Architecture, { dtype, bos, eos = [] }: ToHfConfigOpts): Record<string, unknown> {
  const refuse = (what: string, found: unknown): never => {
    throw new LmqError('export/unsupported', what, { op: 'toHfConfig', found, hint: "Take config.json from the original model's folder." });
  };
  const family = CLASSES.get(a.family) ?? refuse('config.json cannot be made for this family', a.family);
  if (a.rope.scaling || a.rope.local || a.rope.rotary !== a.headDim)
    refuse('config.json cannot be made for these rotary positions', a.rope.scaling?.type ?? 'partial');
  if (a.norm.plusOne || a.embeddingScale !== undefined) refuse('config.json cannot be made for this model', a.family);
  const biased = (roles: readonly string[]): boolean => {
    const sites = a.sites.filter((s) => roles.includes(s.role));
    const some = sites.some((s) => s.bias !== undefined);
    if (some && (a.moe || !sites.every((s) => s.bias !== undefined)))
      refuse('config.json cannot say which linears have a bias', 'some have');
    return some;
  };
  const [attentionBias, mlpBias] = [biased(['q', 'k', 'v', 'o']), biased(['gate', 'up', 'down'])];
  return {
    architectures: [family],
    model_type: a.family,
    hidden_size: a.hidden,
    intermediate_size: a.mlp.intermediate,
    num_hidden_layers: a.layers,
    num_attention_heads: a.heads,
    num_key_value_heads: a.kvHeads,
    head_dim: a.headDim,
    hidden_act: 'silu',
    vocab_size: a.vocab,
    max_position_embeddings: a.context,
    rms_norm_eps: shortest(a.norm.eps),
    rope_theta: shortest(a.rope.theta),
    tie_word_embeddings: a.tied,
    ...(a.moe
      ? { num_local_experts: a.moe.experts, num_experts_per_tok: a.moe.topK, sliding_window: null }
      : { attention_bias: attentionBias, mlp_bias: mlpBias }),
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(eos.length && { eos_token_id: eos.length > 1 ? [...eos] : eos[0] }),
    torch_dtype: DTYPES[dtype],
  };
}

/** The shortest decimal number that is the same float32: 1e-5, where a file holds 0.000009999999747378752. */
function shortest(x: number): number {
  for (let digits = 1; digits <= 9; digits++) {
    const y = Number(x.toPrecision(digits));
    if (Math.fround(y) === Math.fround(x)) return y;
  }
  return x;
}
