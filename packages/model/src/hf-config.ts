/**
 * Reads a Hugging Face `config.json` of the Llama family: `llama`, `mistral`, `mixtral`. Both ways of writing RoPE are understood
 * (`rope_parameters`, and the older `rope_theta` with `rope_scaling`). Whatever would change the result and is not implemented is refused
 * by name, never ignored.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { createFields, type Fields, LIMITS, ownField, unsupported } from './_fields.js';
import type { Architecture } from './api.js';
import { buildArchitecture, moduleName, type Sizes } from './architecture.js';

const OP = 'parseHfConfig';
const FAMILIES = ['llama', 'mistral', 'mixtral'];
const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

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
  const family = f.get('model_type');
  if (typeof family !== 'string' || !FAMILIES.includes(family)) {
    throw unsupported(OP, 'model_type', family ?? 'nothing', FAMILIES.join(', '));
  }
  const quantization = f.get('quantization_config');
  if (quantization !== undefined && quantization !== null) {
    throw unsupported(OP, 'quantization_config', quantization, 'an unquantized model', 'Start from the original weights.');
  }
  f.only('hidden_act', ['silu']);
  f.only('attention_bias', [false]);
  f.only('mlp_bias', [false]);
  f.only('partial_rotary_factor', [1]);

  const sizes = readSizes(f, family);
  checkWindow(f, sizes.context);

  const warnings: string[] = [];
  let embedding = EMBEDDING;
  let head = HEAD;
  if (sizes.tied) {
    if (!hasTensor(EMBEDDING) && hasTensor(HEAD)) {
      embedding = HEAD;
      warnings.push(`The embeddings are stored as ${HEAD}; config.json ties the two, so it serves as both.`);
    } else if (hasTensor(HEAD)) {
      warnings.push(`The checkpoint holds ${HEAD}, but config.json ties the head to the embeddings: ${HEAD} is not used.`);
    }
    head = embedding;
  }
  return buildArchitecture(
    sizes,
    {
      embedding,
      head,
      finalNorm: 'model.norm.weight',
      attentionNorm: (l) => `model.layers.${l}.input_layernorm.weight`,
      mlpNorm: (l) => `model.layers.${l}.post_attention_layernorm.weight`,
      linear: (l, role, expert) => ({ tensor: `${moduleName(l, role, expert)}.weight` }),
    },
    hasTensor,
    warnings,
    OP,
  );
}

function readSizes(f: Fields, family: string): Sizes {
  const hidden = f.integer('hidden_size', 1, LIMITS.width);
  const heads = f.integer('num_attention_heads', 1, LIMITS.heads);
  // The first Llama configurations lack the field and mean one key head per query head.
  const kvHeads = f.integer('num_key_value_heads', 1, heads, family === 'llama' ? heads : undefined);
  const headDim = f.integer('head_dim', 2, LIMITS.headDim, Math.floor(hidden / heads));
  if (heads % kvHeads !== 0)
    throw contradiction('num_attention_heads is not a multiple of num_key_value_heads', `a multiple of ${kvHeads}`, heads);
  if (headDim % 2 !== 0) throw contradiction('head_dim is odd, and RoPE turns pairs', 'an even number', headDim);
  const given = f.get('head_dim');
  if ((given === undefined || given === null) && hidden % heads !== 0) {
    throw contradiction('hidden_size is not a multiple of num_attention_heads', `a multiple of ${heads}`, hidden);
  }
  const sizes: Sizes = {
    family,
    layers: f.integer('num_hidden_layers', 1, LIMITS.layers),
    hidden,
    heads,
    kvHeads,
    headDim,
    vocab: f.integer('vocab_size', 1, LIMITS.vocab),
    context: f.integer('max_position_embeddings', 1, LIMITS.context),
    tied: f.flag('tie_word_embeddings', false),
    norm: { eps: f.positive('rms_norm_eps', 1) },
    rope: { theta: readTheta(f), style: 'half' },
    mlp: { kind: 'swiglu', intermediate: f.integer('intermediate_size', 1, LIMITS.width) },
  };
  if (family === 'mixtral') {
    const experts = f.integer('num_local_experts', 1, LIMITS.experts);
    sizes.moe = { experts, topK: f.integer('num_experts_per_tok', 1, experts) };
  }
  return sizes;
}

/** The base of RoPE's frequencies: `rope_parameters.rope_theta`, else `rope_theta`, else 10000 as in the first Llama. */
function readTheta(f: Fields): number {
  const parameters = readRope(f, 'rope_parameters');
  readRope(f, 'rope_scaling');
  if (parameters && (parameters.get('rope_theta') ?? null) !== null) return parameters.positive('rope_theta', 1e12);
  return f.positive('rope_theta', 1e12, 10000);
}

/** One of the two objects that describe RoPE; refuses every kind but the plain one. */
function readRope(f: Fields, name: string): Fields | null {
  const value = f.get(name) ?? null;
  if (value === null) return null;
  if (typeof value !== 'object') throw contradiction(`${name} is not an object`, 'an object or null', value);
  const inner = createFields((key) => ownField(value, key), OP);
  for (const [key, allowed] of [
    ['rope_type', 'default'],
    ['type', 'default'],
    ['partial_rotary_factor', 1],
  ] as const) {
    const found = inner.get(key) ?? allowed;
    if (found !== allowed) throw unsupported(OP, `${name}.${key}`, found, String(allowed));
  }
  return inner;
}

/** A sliding window that reaches over the whole context hides nothing; a smaller one does. */
function checkWindow(f: Fields, context: number): void {
  const window = f.get('sliding_window');
  if (window === undefined || window === null || f.get('use_sliding_window') === false) return;
  if (f.integer('sliding_window', 1, LIMITS.context) >= context) return;
  throw unsupported(
    OP,
    'sliding_window',
    window,
    `null, or at least max_position_embeddings (${context})`,
    'To use the model within its window, lower max_position_embeddings in config.json to that number.',
  );
}

function contradiction(what: string, expected: unknown, found: unknown): LmqError {
  return new LmqError('model/config', what, { op: OP, expected, found });
}
