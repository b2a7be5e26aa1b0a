/**
 * A Hugging Face llama, mistral or mixtral model as GGUF's architecture "llama": its key-values, and where each tensor goes (llama.cpp
 * docs and convert_hf_to_gguf.py). What llama.cpp would compute differently is refused, not written.
 * @module
 */

import { tokenizerEntries } from './_gguf-tokenizer.js';
import { countField, type Fields, field, fieldsOf, numberField, textField, unsupported } from './_object.js';
import type { GgufEntry } from './api.js';

const HINT = 'Export to safetensors or to the lmq format instead.';

/** `general.file_type` of llama.cpp. */
const FILE_TYPES = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 7 } as const;

export interface GgufLlamaOpts {
  /** Parsed config.json. */
  config: unknown;
  /** Parsed tokenizer.json. */
  tokenizer: unknown;
  /** Parsed tokenizer_config.json. */
  tokenizerConfig?: unknown;
  /** Parsed generation_config.json. */
  generationConfig?: unknown;
  /** What most of the matrices are stored as. */
  fileType: keyof typeof FILE_TYPES;
  /** `general.name`. */
  name?: string;
}

/**
 * Where a tensor goes. `name`: under this name, rows reordered by `permutedRows(rows, permuteHeads)` where that is set. `stack`: as slice
 * `expert` of a 3-D tensor `[experts, out, in]` of that name.
 */
export type GgufPlace = { name: string; permuteHeads?: number } | { stack: string; expert: number };

export interface GgufLlama {
  metadata: GgufEntry[];
  /** Experts per layer; 0 for a dense model. */
  experts: number;
  /**
   * @returns `null` for a tensor that GGUF leaves out: a tied head, stored rotary frequencies
   * @throws LmqError `export/unsupported` for a tensor that the architecture does not have
   */
  place(hfName: string): GgufPlace | null;
}

/** True for tensors that GGUF readers want as F32 whatever the rest is: vectors (norms, biases) and the router of experts. */
export function ggufNeedsF32(ggufName: string, shape: readonly number[]): boolean {
  return shape.length < 2 || ggufName.endsWith('_norm.weight') || ggufName.endsWith('.ffn_gate_inp.weight');
}

const MODULES = new Map([
  ['input_layernorm', 'attn_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['block_sparse_moe.gate', 'ffn_gate_inp'],
]);
const EXPERT_MODULES = new Map([
  ['w1', 'ffn_gate_exps'],
  ['w2', 'ffn_down_exps'],
  ['w3', 'ffn_up_exps'],
]);
const TOP = new Map([
  ['model.embed_tokens.weight', 'token_embd.weight'],
  ['model.norm.weight', 'output_norm.weight'],
  ['lm_head.weight', 'output.weight'],
]);
const ARCHITECTURES = ['LlamaForCausalLM', 'MistralForCausalLM', 'MixtralForCausalLM'];

/** Base of the rotary frequencies; anything but plain rotation of whole heads is refused. */
function ropeBase(config: Fields): number {
  const parameters = fieldsOf(field(config, 'rope_parameters')) ?? {};
  const scaling = fieldsOf(field(config, 'rope_scaling')) ?? {};
  for (const f of [parameters, scaling]) {
    const type = field(f, 'rope_type') ?? field(f, 'type') ?? 'default';
    if (type !== 'default') unsupported('export/unsupported', 'scaled rotary positions cannot be written', type, HINT);
    if (Object.values(f).some((v) => fieldsOf(v) !== undefined))
      unsupported('export/unsupported', 'rotary positions differ between layers', 'nested parameters', HINT);
  }
  const partial = field(parameters, 'partial_rotary_factor') ?? field(config, 'partial_rotary_factor') ?? 1;
  if (partial !== 1) unsupported('export/unsupported', 'only part of each head is rotated', partial, HINT);
  return numberField(parameters, 'rope_theta', 'ggufLlama', numberField(config, 'rope_theta', 'ggufLlama', 10_000));
}

/**
 * Key-values and tensor places for a GGUF file of a llama-family model.
 * @throws LmqError `export/unsupported` for a model that GGUF's llama is not, `tokenizer/unsupported` for a tokenizer that llama.cpp would
 * read differently, `model/config` for a configuration that contradicts itself
 */
export function ggufLlama(opts: GgufLlamaOpts): GgufLlama {
  const op = 'ggufLlama';
  const config = fieldsOf(opts.config) ?? {};
  const architectures = field(config, 'architectures');
  const architecture = Array.isArray(architectures) ? architectures[0] : undefined;
  if (!ARCHITECTURES.includes(architecture))
    unsupported('export/unsupported', 'GGUF export does not know this architecture', architecture ?? 'none', HINT);
  const activation = textField(config, 'hidden_act') ?? 'silu';
  if (activation !== 'silu') unsupported('export/unsupported', 'llama.cpp runs this architecture with silu only', activation, HINT);

  const hidden = countField(config, 'hidden_size', op);
  const layers = countField(config, 'num_hidden_layers', op);
  const heads = countField(config, 'num_attention_heads', op);
  const kvHeads = countField(config, 'num_key_value_heads', op, heads);
  const headDim = countField(config, 'head_dim', op, hidden / heads);
  const vocab = countField(config, 'vocab_size', op);
  const mixtral = architecture === 'MixtralForCausalLM';
  const experts = mixtral ? countField(config, 'num_local_experts', op, 8) : 0;
  const tied = field(config, 'tie_word_embeddings') === true;
  // llama.cpp attends to everything: within the window that is the same
  const context = countField(config, 'max_position_embeddings', op);
  const window = field(config, 'sliding_window') === undefined ? context : countField(config, 'sliding_window', op);

  const metadata: GgufEntry[] = [];
  const add = (key: string, type: GgufEntry['type'], value: unknown) => metadata.push({ key, type, value });
  add('general.architecture', 'string', 'llama');
  add('general.type', 'string', 'model');
  if (opts.name !== undefined) add('general.name', 'string', opts.name);
  add('general.file_type', 'u32', FILE_TYPES[opts.fileType]);
  if (opts.fileType === 'Q8_0' || opts.fileType === 'Q4_0') add('general.quantization_version', 'u32', 2);
  add('llama.context_length', 'u32', Math.min(context, window));
  add('llama.embedding_length', 'u32', hidden);
  add('llama.block_count', 'u32', layers);
  add('llama.feed_forward_length', 'u32', countField(config, 'intermediate_size', op));
  add('llama.attention.head_count', 'u32', heads);
  add('llama.attention.head_count_kv', 'u32', kvHeads);
  add('llama.attention.key_length', 'u32', headDim);
  add('llama.attention.value_length', 'u32', headDim);
  add('llama.attention.layer_norm_rms_epsilon', 'f32', numberField(config, 'rms_norm_eps', op));
  add('llama.rope.dimension_count', 'u32', headDim);
  add('llama.rope.freq_base', 'f32', ropeBase(config));
  add('llama.vocab_size', 'u32', vocab);
  if (mixtral) {
    add('llama.expert_count', 'u32', experts);
    add('llama.expert_used_count', 'u32', countField(config, 'num_experts_per_tok', op, 2));
  }
  metadata.push(
    ...tokenizerEntries(
      {
        config,
        tokenizer: fieldsOf(opts.tokenizer) ?? {},
        tokenizerConfig: fieldsOf(opts.tokenizerConfig) ?? {},
        generationConfig: fieldsOf(opts.generationConfig) ?? {},
      },
      vocab,
    ),
  );

  const unknown = (hfName: string): never => unsupported('export/unsupported', "GGUF's llama has no place for a tensor", hfName, HINT);
  const place = (hfName: string): GgufPlace | null => {
    if (hfName === 'lm_head.weight' && tied) return null;
    const top = TOP.get(hfName);
    if (top) return { name: top };
    const block = /^model\.layers\.(\d{1,9})\.(.+)\.(weight|bias|inv_freq)$/.exec(hfName);
    if (!block) return unknown(hfName);
    const [, layer, module, kind] = block as unknown as [string, string, string, string];
    if (Number(layer) >= layers) return unknown(hfName);
    if (kind === 'inv_freq') return module === 'self_attn.rotary_emb' ? null : unknown(hfName);
    const expert = /^block_sparse_moe\.experts\.(\d{1,9})\.(w[123])$/.exec(module);
    if (expert && kind === 'weight' && Number(expert[1]) < experts) {
      return { stack: `blk.${Number(layer)}.${EXPERT_MODULES.get(expert[2]!)}.weight`, expert: Number(expert[1]) };
    }
    const to = MODULES.get(module);
    if (!to || (module.startsWith('mlp.') && mixtral) || (module.startsWith('block_sparse_moe.') && (!mixtral || kind === 'bias')))
      return unknown(hfName);
    const name = `blk.${Number(layer)}.${to}.${kind}`;
    if (to === 'attn_q') return { name, permuteHeads: heads };
    if (to === 'attn_k') return { name, permuteHeads: kvHeads };
    return { name };
  };
  return { metadata, experts, place };
}
