/**
 * Reads a Hugging Face `config.json`: `llama`, `mistral`, `mixtral`, `qwen2`, `qwen3`, `gemma3_text`, `phi3`. What a family implies is in
 * `_hf-families.ts`. Whatever would change the result and is not implemented is refused by name, never ignored.
 * @module
 */
import { roundToFormat } from '@lmq/formats';
import { type GluActivation, LmqError } from '@lmq/tensor';
import { createFields, type Fields, LIMITS, ownField, unsupported } from './_fields.js';
import { HF_FAMILIES, type HfFamily } from './_hf-families.js';
import { readRope } from './_hf-rope.js';
import { readWindows } from './_hf-windows.js';
import type { Architecture, Role } from './api.js';
import { buildArchitecture, moduleName, type Naming, roleShape, type Sizes } from './architecture.js';

const OP = 'parseHfConfig';
const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';
const ACTIVATIONS: Record<string, GluActivation> = { silu: 'silu', swish: 'silu', gelu_pytorch_tanh: 'gelu-tanh' };

/**
 * Describes the model that a `config.json` stands for.
 * @param config the parsed JSON
 * @param hasTensor whether the checkpoint has a tensor of that name
 * @throws LmqError `model/unsupported` for a model that lmq does not run, `model/config` for an unusable value, `model/missing` for a
 *   tensor that the configuration needs
 */
export function parseHfConfig(config: unknown, hasTensor: (name: string) => boolean): Architecture {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new LmqError('model/config', 'config.json is not an object', {
      op: OP,
      found: Array.isArray(config) ? 'an array' : typeof config,
    });
  }
  const f = createFields((name) => ownField(config, name), OP);
  const name = f.get('model_type');
  const family = HF_FAMILIES.get(name);
  if (!family) throw unsupported(OP, 'model_type', name ?? 'nothing', [...HF_FAMILIES.keys()].join(', '));
  const quantization = f.get('quantization_config');
  if (quantization !== undefined && quantization !== null) {
    throw unsupported(OP, 'quantization_config', quantization, 'an unquantized model', 'Start from the original weights.');
  }
  for (const softcap of ['attn_logit_softcapping', 'final_logit_softcapping']) f.only(softcap, []);
  f.only('use_bidirectional_attention', [false]);
  if (family.biases === 'none') f.only('attention_bias', [false]);
  if (name !== 'llama') f.only('mlp_bias', [false]);

  const sizes = readSizes(f, name as string, family);
  const warnings: string[] = [];
  const tables = nameTables(sizes.tied, hasTensor, warnings);
  return buildArchitecture(sizes, { ...tables, ...nameBlocks(f, family, sizes) }, hasTensor, warnings, OP);
}

function readSizes(f: Fields, name: string, family: HfFamily): Sizes {
  const hidden = f.integer('hidden_size', 1, LIMITS.width);
  const heads = f.integer('num_attention_heads', 1, LIMITS.heads);
  const kvHeads = f.integer('num_key_value_heads', 1, heads, family.kvHeadsOptional ? heads : undefined);
  const headDim = f.integer('head_dim', 2, LIMITS.headDim, family.headDim ?? Math.floor(hidden / heads));
  if (heads % kvHeads !== 0)
    throw contradiction('num_attention_heads is not a multiple of num_key_value_heads', `a multiple of ${kvHeads}`, heads);
  if (headDim % 2 !== 0) throw contradiction('head_dim is odd, and RoPE turns pairs', 'an even number', headDim);
  const given = f.get('head_dim') ?? family.headDim ?? null;
  if (given === null && hidden % heads !== 0) {
    throw contradiction('hidden_size is not a multiple of num_attention_heads', `a multiple of ${heads}`, hidden);
  }
  const layers = f.integer('num_hidden_layers', 1, LIMITS.layers);
  const context = f.integer('max_position_embeddings', 1, LIMITS.context);
  const rope = readRope(f, family, headDim, context);
  const scaleOf = family.gemma ? f.positive('query_pre_attn_scalar', LIMITS.width, 256) : headDim;
  const sizes: Sizes = {
    family: name,
    layers,
    hidden,
    heads,
    kvHeads,
    headDim,
    vocab: f.integer('vocab_size', 1, LIMITS.vocab),
    context: reachOf(rope, context),
    tied: f.flag('tie_word_embeddings', family.tied),
    norm: { eps: f.positive('rms_norm_eps', 1), plusOne: family.gemma },
    attention: { scale: 1 / Math.sqrt(scaleOf), windows: readWindows(f, family, layers, context) },
    rope,
    mlp: { activation: readActivation(f, family), intermediate: f.integer('intermediate_size', 1, LIMITS.width) },
  };
  if (family.gemma) sizes.embeddingScale = readEmbeddingScale(f, hidden);
  if (family.moe) {
    const experts = f.integer('num_local_experts', 1, LIMITS.experts);
    sizes.moe = { experts, topK: f.integer('num_experts_per_tok', 1, experts) };
  }
  return sizes;
}

/** Configurations with YaRN often state the context from before it (Qwen): the factor was meant to stretch that. */
function reachOf({ scaling }: Architecture['rope'], context: number): number {
  return scaling?.type === 'yarn' ? Math.max(context, Math.floor(scaling.originalContext * scaling.factor)) : context;
}

function readActivation(f: Fields, { activation }: HfFamily): GluActivation {
  const name = f.get(activation.field) ?? activation.fallback;
  const found = typeof name === 'string' && Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (found) return found;
  throw unsupported(OP, activation.field, name, Object.keys(ACTIVATIONS).join(', '));
}

/** sqrt(hidden), rounded to the number format that the model was made in, as its own code rounds it. */
function readEmbeddingScale(f: Fields, hidden: number): number {
  const dtype = f.get('dtype') ?? f.get('torch_dtype') ?? 'float32';
  const format = dtype === 'bfloat16' ? 'bf16' : dtype === 'float16' ? 'fp16' : dtype === 'float32' ? 'fp32' : undefined;
  if (!format) throw unsupported(OP, 'dtype', dtype, 'bfloat16, float16, float32');
  return roundToFormat(Math.fround(Math.sqrt(hidden)), format);
}

function nameTables(tied: boolean, hasTensor: (name: string) => boolean, warnings: string[]): Pick<Naming, 'embedding' | 'head'> {
  if (!tied) return { embedding: EMBEDDING, head: HEAD };
  if (!hasTensor(EMBEDDING) && hasTensor(HEAD)) {
    warnings.push(`The embeddings are stored as ${HEAD}; config.json ties the two, so it serves as both.`);
    return { embedding: HEAD, head: HEAD };
  }
  if (hasTensor(HEAD)) {
    warnings.push(`The checkpoint holds ${HEAD}, but config.json ties the head to the embeddings: ${HEAD} is not used.`);
  }
  return { embedding: EMBEDDING, head: EMBEDDING };
}

const ATTENTION_ROLES: readonly Role[] = ['q', 'k', 'v', 'o'];
const FUSED: readonly (readonly Role[])[] = [
  ['q', 'k', 'v'],
  ['gate', 'up'],
];

function nameBlocks(f: Fields, family: HfFamily, sizes: Sizes): Pick<Naming, 'finalNorm' | 'norms' | 'linear'> {
  const at = (part: string) => (layer: number) => `model.layers.${layer}.${part}.weight`;
  const declared = family.biases === 'declared';
  const attentionBias = declared && f.flag('attention_bias', false);
  const mlpBias = declared && f.flag('mlp_bias', false);
  const hasBias = (role: Role) => {
    if (!ATTENTION_ROLES.includes(role)) return mlpBias;
    return attentionBias || (family.biases === 'qkv' && role !== 'o');
  };
  return {
    finalNorm: 'model.norm.weight',
    norms: {
      attentionNorm: at('input_layernorm'),
      mlpNorm: at(family.gemma ? 'pre_feedforward_layernorm' : 'post_attention_layernorm'),
      ...(family.gemma && { attentionPostNorm: at('post_attention_layernorm'), mlpPostNorm: at('post_feedforward_layernorm') }),
      ...(family.headNorms && { queryNorm: at('self_attn.q_norm'), keyNorm: at('self_attn.k_norm') }),
    },
    linear(layer, role, expert) {
      const module = moduleName(layer, role, expert);
      const group = family.fused ? FUSED.find((roles) => roles.includes(role)) : undefined;
      if (group) {
        const before = group.slice(0, group.indexOf(role)).reduce((sum, r) => sum + roleShape(sizes, r)[0], 0);
        const tensor = `model.layers.${layer}.${role === 'gate' || role === 'up' ? 'mlp.gate_up_proj' : 'self_attn.qkv_proj'}.weight`;
        return { tensor, from: before };
      }
      return { tensor: `${module}.weight`, ...(hasBias(role) && { bias: `${module}.bias` }) };
    },
  };
}

function contradiction(what: string, expected: unknown, found: unknown): LmqError {
  return new LmqError('model/config', what, { op: OP, expected, found });
}
