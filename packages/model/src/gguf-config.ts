/**
 * Reads the key-values of a GGUF file of architecture `llama` (Llama, Mistral, Mixtral). Its Q and K rows are stored in the order that
 * interleaved RoPE wants, and the experts of a layer are stacked in one tensor. Key names: GGUF specification, ggml docs/gguf.md.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { createFields, type Fields, LIMITS, unsupported } from './_fields.js';
import type { Architecture, Role } from './api.js';
import { buildArchitecture, roleShape, type Sizes } from './architecture.js';

const OP = 'parseGgufConfig';
const EMBEDDING = 'token_embd.weight';
const HEAD = 'output.weight';
const LINEARS: Record<Role, string> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
  router: 'ffn_gate_inp',
};

/**
 * Describes the model in a GGUF file.
 * @param metadata the file's key-values
 * @param hasTensor whether the file has a tensor of that name; a file without `output.weight` ties its head to the embeddings
 * @throws LmqError `model/unsupported`, `model/config`, `model/missing` as {@link parseHfConfig}
 */
export function parseGgufConfig(metadata: ReadonlyMap<string, unknown>, hasTensor: (name: string) => boolean): Architecture {
  const f = createFields((key) => metadata.get(key), OP);
  const name = f.get('general.architecture');
  if (name !== 'llama') throw unsupported(OP, 'general.architecture', name ?? 'nothing', 'llama');
  f.only('llama.rope.scaling.type', ['none']);
  if (hasTensor('rope_freqs.weight')) throw unsupported(OP, 'rope_freqs.weight', 'scaled RoPE frequencies', 'no such tensor');

  const sizes = readSizes(f, !hasTensor(HEAD));
  const window = f.get('llama.attention.sliding_window') ?? null;
  if (window !== null && f.integer('llama.attention.sliding_window', 0, LIMITS.context) < sizes.context && Number(window) !== 0) {
    throw unsupported(OP, 'llama.attention.sliding_window', window, `at least the context length (${sizes.context})`);
  }
  return buildArchitecture(
    sizes,
    {
      embedding: EMBEDDING,
      head: sizes.tied ? EMBEDDING : HEAD,
      finalNorm: 'output_norm.weight',
      norms: { attentionNorm: (l) => `blk.${l}.attn_norm.weight`, mlpNorm: (l) => `blk.${l}.ffn_norm.weight` },
      linear: (l, role, expert) =>
        expert === undefined
          ? { tensor: `blk.${l}.${LINEARS[role]}.weight` }
          : { tensor: `blk.${l}.${LINEARS[role]}_exps.weight`, from: expert * roleShape(sizes, role)[0] },
    },
    hasTensor,
    [],
    OP,
  );
}

function readSizes(f: Fields, tied: boolean): Sizes {
  const hidden = f.integer('llama.embedding_length', 1, LIMITS.width);
  const heads = f.integer('llama.attention.head_count', 1, LIMITS.heads);
  const kvHeads = f.integer('llama.attention.head_count_kv', 1, heads, heads);
  if (heads % kvHeads !== 0) {
    throw new LmqError('model/config', 'llama.attention.head_count_kv does not divide the heads', {
      op: OP,
      expected: `a divisor of ${heads}`,
      found: kvHeads,
    });
  }
  const plain = hidden % heads === 0 ? hidden / heads : undefined;
  const headDim = f.integer('llama.attention.key_length', 2, LIMITS.headDim, plain);
  f.only('llama.attention.value_length', [headDim, BigInt(headDim)]);
  f.only('llama.rope.dimension_count', [headDim, BigInt(headDim)]);
  const tokens = f.get('tokenizer.ggml.tokens') as { length?: number } | undefined;
  const experts = f.integer('llama.expert_count', 0, LIMITS.experts, 0);
  const layers = f.integer('llama.block_count', 1, LIMITS.layers);
  const sizes: Sizes = {
    family: experts ? 'mixtral' : 'llama',
    layers,
    hidden,
    heads,
    kvHeads,
    headDim,
    vocab: f.integer('llama.vocab_size', 1, LIMITS.vocab, tokens?.length),
    context: f.integer('llama.context_length', 1, LIMITS.context),
    tied,
    norm: { eps: f.positive('llama.attention.layer_norm_rms_epsilon', 1), plusOne: false },
    attention: { scale: 1 / Math.sqrt(headDim), windows: Array(layers).fill(null) },
    rope: { theta: f.positive('llama.rope.freq_base', 1e12, 10000), style: 'interleaved', rotary: headDim },
    mlp: { activation: 'silu', intermediate: f.integer('llama.feed_forward_length', 1, LIMITS.width) },
  };
  if (experts) sizes.moe = { experts, topK: f.integer('llama.expert_used_count', 1, experts) };
  return sizes;
}
