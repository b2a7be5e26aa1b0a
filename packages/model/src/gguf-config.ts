/**
 * Reads the key-values of a GGUF file: of architecture `llama` (Llama, Mistral, Mixtral), `qwen2`, `qwen3`, `gemma3`, `phi3`. Llama's Q and
 * K rows are stored in the order that interleaved RoPE wants, the experts of a layer are stacked in one tensor, Gemma's norm weights have
 * their 1 added. Key names: GGUF specification, ggml docs/gguf.md; their defaults: llama.cpp (src/llama-model.cpp, src/models/*.cpp).
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { createFields, type Fields, LIMITS, unsupported } from './_fields.js';
import {
  EMBEDDING,
  FINAL_NORM,
  GGUF_FAMILIES,
  type GgufFamily,
  ggufAttentionScale,
  ggufLinear,
  ggufNorms,
  HEAD,
  ROPE_FACTORS,
  yarnMagnitude,
} from './_gguf-names.js';
import type { Architecture, RopeScaling } from './api.js';
import { buildArchitecture, type Sizes } from './architecture.js';

export { ROPE_FACTORS };

const OP = 'parseGgufConfig';
const MAX_FACTOR = 1e6;

/**
 * Describes the model in a GGUF file.
 * @param metadata the file's key-values
 * @param hasTensor whether the file has a tensor of that name; a file without `output.weight` ties its head to the embeddings
 * @param ropeFactors what the tensor `rope_freqs.weight` holds, where the file has it (Llama 3.1)
 * @throws LmqError `model/unsupported`, `model/config`, `model/missing` as {@link parseHfConfig}
 */
export function parseGgufConfig(
  metadata: ReadonlyMap<string, unknown>,
  hasTensor: (name: string) => boolean,
  ropeFactors?: ArrayLike<number>,
): Architecture {
  const name = metadata.get('general.architecture');
  const family = GGUF_FAMILIES.get(name);
  if (!family) throw unsupported(OP, 'general.architecture', name ?? 'nothing', [...GGUF_FAMILIES.keys()].join(', '));
  const f = createFields((key) => metadata.get(`${name}.${key}`), OP, `${name}.`);
  if (hasTensor(ROPE_FACTORS) && !ropeFactors) {
    throw new LmqError('argument/value', `the file has ${ROPE_FACTORS}, and its contents were not given`, {
      op: OP,
      tensor: ROPE_FACTORS,
      hint: 'Read the tensor and pass it as the third argument.',
    });
  }
  for (const softcap of ['attn_logit_softcapping', 'final_logit_softcapping']) f.only(softcap, []);
  for (const part of family.fused ? ['long', 'short'] : []) {
    if (hasTensor(`rope_factors_${part}.weight`)) throw unsupported(OP, `rope_factors_${part}.weight`, 'LongRoPE', 'no such tensor');
  }
  const tokens = metadata.get('tokenizer.ggml.tokens') as { length?: number } | undefined;
  const sizes = readSizes(f, name as string, family, { tied: !hasTensor(HEAD), tokens: tokens?.length, ropeFactors });
  return buildArchitecture(
    sizes,
    {
      embedding: EMBEDDING,
      head: sizes.tied ? EMBEDDING : HEAD,
      finalNorm: FINAL_NORM,
      norms: ggufNorms(family),
      linear(layer, role, expert) {
        const { bias, ...place } = ggufLinear(family, sizes, layer, role, expert);
        return family.biased.includes(role) && hasTensor(bias) ? { ...place, bias } : place;
      },
    },
    hasTensor,
    [],
    OP,
  );
}

interface FromTensors {
  tied: boolean;
  tokens: number | undefined;
  ropeFactors: ArrayLike<number> | undefined;
}

function readSizes(f: Fields, name: string, family: GgufFamily, { tied, tokens, ropeFactors }: FromTensors): Sizes {
  const hidden = f.integer('embedding_length', 1, LIMITS.width);
  const heads = f.integer('attention.head_count', 1, LIMITS.heads);
  const kvHeads = f.integer('attention.head_count_kv', 1, heads, heads);
  if (heads % kvHeads !== 0) {
    throw new LmqError('model/config', `${name}.attention.head_count_kv does not divide the heads`, {
      op: OP,
      expected: `a divisor of ${heads}`,
      found: kvHeads,
    });
  }
  const plain = hidden % heads === 0 ? hidden / heads : undefined;
  const headDim = f.integer('attention.key_length', 2, LIMITS.headDim, plain);
  f.only('attention.value_length', [headDim, BigInt(headDim)]);
  if (!family.fused) f.only('rope.dimension_count', [headDim, BigInt(headDim)]);
  const rotary = f.integer('rope.dimension_count', 2, headDim, headDim);
  if (rotary % 2 !== 0) {
    throw new LmqError('model/config', `${name}.rope.dimension_count is odd, and RoPE turns pairs`, {
      op: OP,
      expected: 'an even number',
      found: rotary,
    });
  }
  const experts = f.integer('expert_count', 0, LIMITS.experts, 0);
  if (experts && name !== 'llama') throw unsupported(OP, `${name}.expert_count`, experts, 'no experts in this architecture');
  const layers = f.integer('block_count', 1, LIMITS.layers);
  const context = f.integer('context_length', 1, LIMITS.context);
  const shape = { layers, hidden, heads, kvHeads, headDim, context };
  const scaling = readScaling(f, context, ropeFactors, rotary);
  const theta = f.positive('rope.freq_base', 1e12, 10000);
  const sizes: Sizes = {
    family: name === 'gemma3' ? 'gemma3_text' : experts ? 'mixtral' : name,
    ...shape,
    vocab: f.integer('vocab_size', 1, LIMITS.vocab, tokens),
    tied,
    norm: { eps: f.positive('attention.layer_norm_rms_epsilon', 1), plusOne: false },
    attention: { scale: 0, windows: readWindows(f, family, layers, context, name) },
    rope: {
      theta,
      ...(scaling && { scaling }),
      ...(family.gemma && { local: { theta: f.positive('rope.freq_base_swa', 1e12, 10000) } }),
      style: family.style,
      rotary,
    },
    mlp: { activation: family.gemma ? 'gelu-tanh' : 'silu', intermediate: f.integer('feed_forward_length', 1, LIMITS.width) },
  };
  sizes.attention.scale = ggufAttentionScale(family, sizes);
  if (family.gemma) sizes.embeddingScale = Math.fround(Math.sqrt(hidden));
  if (experts) sizes.moe = { experts, topK: f.integer('expert_used_count', 1, experts) };
  return sizes;
}

/** By layer, the number of last keys that a query sees; null: all. */
function readWindows(f: Fields, { gemma, fused }: GgufFamily, layers: number, context: number, name: string): (number | null)[] {
  const window = f.integer('attention.sliding_window', 0, LIMITS.context, 0) || null;
  if (gemma) {
    const pattern = f.integer('attention.sliding_window_pattern', 1, LIMITS.layers, 6);
    return Array.from({ length: layers }, (_, layer) => ((layer + 1) % pattern === 0 ? null : window));
  }
  if (fused) return Array(layers).fill(window);
  if (window !== null && window < context)
    throw unsupported(OP, `${name}.attention.sliding_window`, window, `at least the context length (${context})`);
  return Array(layers).fill(null);
}

function readScaling(f: Fields, context: number, ropeFactors: ArrayLike<number> | undefined, rotary: number): RopeScaling | undefined {
  // without a type, a factor means linear scaling; rope.scale_linear is its old name
  const factorKey = (f.get('rope.scaling.factor') ?? null) === null ? 'rope.scale_linear' : 'rope.scaling.factor';
  const factor = f.positive(factorKey, MAX_FACTOR, 1);
  const type = f.get('rope.scaling.type') ?? 'linear';
  f.only('rope.scaling.type', ['none', 'linear', 'yarn']);
  const scaled = type === 'yarn' || (type === 'linear' && factor !== 1);
  if (ropeFactors) {
    if (scaled) throw unsupported(OP, ROPE_FACTORS, `beside ${type} scaling`, 'one kind of scaling');
    const factors = Array.from(ropeFactors);
    if (factors.length === rotary / 2 && factors.every((x) => x > 0 && x <= MAX_FACTOR)) return { type: 'factors', factors };
    throw new LmqError('model/config', 'the RoPE factors do not fit', {
      op: OP,
      tensor: ROPE_FACTORS,
      expected: `${rotary / 2} numbers in (0, ${MAX_FACTOR}]`,
      found: `${factors.length} numbers`,
    });
  }
  if (!scaled) return undefined;
  if (type === 'linear') return { type: 'linear', factor };
  return {
    type: 'yarn',
    factor,
    originalContext: f.integer('rope.scaling.original_context_length', 1, LIMITS.context, context),
    betaFast: f.positive('rope.scaling.yarn_beta_fast', MAX_FACTOR, 32),
    betaSlow: f.positive('rope.scaling.yarn_beta_slow', MAX_FACTOR, 1),
    truncate: true,
    magnitude: f.positive('rope.scaling.attn_factor', MAX_FACTOR, 1) * yarnMagnitude(factor),
  };
}
