/**
 * The architectures of GGUF that lmq reads and writes, as data: names of tensors (ggml docs/gguf.md; gguf-py constants.py) and what llama.cpp
 * makes of each architecture (src/models/*.cpp).
 * @module
 */
import type { Role } from './api.js';
import { type Naming, roleShape, type Sizes } from './architecture.js';

export const EMBEDDING = 'token_embd.weight';
export const HEAD = 'output.weight';
export const FINAL_NORM = 'output_norm.weight';
/** By pair of a head's elements, what its frequency is divided by. */
export const ROPE_FACTORS = 'rope_freqs.weight';

export interface GgufFamily {
  /** Which elements of a head RoPE pairs: llama's queries and keys are stored reordered for that. */
  style: 'half' | 'interleaved';
  /** Linears that may have a bias. */
  biased: readonly Role[];
  /** Norms of each head's queries and keys. */
  headNorms: boolean;
  /** Four norms per block, windows in a fixed pattern with a RoPE base of their own, scaled embeddings, GeGLU. */
  gemma: boolean;
  /** q, k, v in one tensor; gate and up in another; RoPE may turn part of each head. */
  fused: boolean;
}

const ATTENTION: readonly Role[] = ['q', 'k', 'v', 'o'];
const BASE: GgufFamily = { style: 'half', biased: [], headNorms: false, gemma: false, fused: false };

/** By `general.architecture`. */
export const GGUF_FAMILIES: ReadonlyMap<unknown, GgufFamily> = new Map<unknown, GgufFamily>([
  ['llama', { ...BASE, style: 'interleaved', biased: [...ATTENTION, 'gate', 'up', 'down'] }],
  ['qwen2', { ...BASE, biased: ['q', 'k', 'v'] }],
  ['qwen3', { ...BASE, headNorms: true }],
  ['gemma3', { ...BASE, headNorms: true, gemma: true }],
  ['phi3', { ...BASE, fused: true }],
]);

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
const FUSED: readonly { tensor: string; roles: readonly Role[] }[] = [
  { tensor: 'attn_qkv', roles: ['q', 'k', 'v'] },
  { tensor: 'ffn_up', roles: ['gate', 'up'] },
];

/** Names of the norms of block `layer`. */
export function ggufNorms({ gemma, headNorms }: GgufFamily): Naming['norms'] {
  const at = (part: string) => (layer: number) => `blk.${layer}.${part}.weight`;
  return {
    attentionNorm: at('attn_norm'),
    mlpNorm: at('ffn_norm'),
    ...(gemma && { attentionPostNorm: at('post_attention_norm'), mlpPostNorm: at('post_ffw_norm') }),
    ...(headNorms && { queryNorm: at('attn_q_norm'), keyNorm: at('attn_k_norm') }),
  };
}

/** Where a linear is; `from` is set where the tensor holds more than it. */
export function ggufLinear(
  family: GgufFamily,
  sizes: Sizes,
  layer: number,
  role: Role,
  expert?: number,
): { tensor: string; bias: string; from?: number } {
  const at = `blk.${layer}.${LINEARS[role]}`;
  if (expert !== undefined) return { tensor: `${at}_exps.weight`, bias: `${at}_exps.bias`, from: expert * roleShape(sizes, role)[0] };
  const fused = family.fused ? FUSED.find(({ roles }) => roles.includes(role)) : undefined;
  if (!fused) return { tensor: `${at}.weight`, bias: `${at}.bias` };
  const before = fused.roles.slice(0, fused.roles.indexOf(role));
  return {
    tensor: `blk.${layer}.${fused.tensor}.weight`,
    bias: `blk.${layer}.${fused.tensor}.bias`,
    from: before.reduce((sum, r) => sum + roleShape(sizes, r)[0], 0),
  };
}

/** Factor of q k^T that llama.cpp has fixed. */
export function ggufAttentionScale({ gemma }: GgufFamily, { layers, hidden, heads, headDim }: Sizes): number {
  const width = gemma && layers === 62 ? hidden / heads : headDim; // the Gemma 3 of 27 billion parameters, told by its layers
  return 1 / Math.sqrt(width);
}

/** What llama.cpp multiplies cos and sin with besides `rope.scaling.attn_factor`. */
export function yarnMagnitude(factor: number): number {
  return 1 + 0.1 * Math.log(factor);
}
