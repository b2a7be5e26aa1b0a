/**
 * A model as a GGUF file: its key-values, and where each tensor of the checkpoint goes (llama.cpp's converters, conversion/*.py). What
 * llama.cpp would compute differently is refused or, where only long texts are concerned, said in a note. The other way: `gguf-config.ts`.
 * @module
 */
import { GGUF_FILE_TYPES, type GgufEntry, type GgufFileTypeName, isBlockFileType } from '@lmq/checkpoints';
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
} from './_gguf-names.js';
import { contextOf, ropeEntries, ropeFactors, windowEntries } from './_gguf-positions.js';
import { unsupportedExport as unsupported } from './_gguf-unsupported.js';
import type { Architecture, Site } from './api.js';

/** `general.architecture` by family. */
const ARCHITECTURES = new Map([
  ['llama', 'llama'],
  ['mistral', 'llama'],
  ['mixtral', 'llama'],
  ['qwen2', 'qwen2'],
  ['qwen3', 'qwen3'],
  ['gemma3_text', 'gemma3'],
  ['phi3', 'phi3'],
]);

/**
 * Where a tensor goes. `name`: under this name, rows reordered by `permutedRows(rows, permuteHeads)` where that is set, then `add` added to
 * each value and the sum multiplied with `scale`. `stack`: as slice `expert` of a 3-D tensor `[experts, out, in]` of that name.
 */
export type GgufPlace = { name: string; permuteHeads?: number; add?: number; scale?: number } | { stack: string; expert: number };

export interface GgufModelOpts {
  fileType: GgufFileTypeName;
  /** `general.name`. */
  name?: string;
}

export interface GgufModel {
  /** All but the tokenizer's, for which see `ggufTokenizer` of @lmq/checkpoints. */
  metadata: GgufEntry[];
  /** Tensors that the checkpoint does not have, F32. */
  extra: { name: string; data: Float32Array }[];
  /** What llama.cpp will do otherwise than the original. */
  notes: string[];
  /**
   * @returns `null` for a tensor that GGUF leaves out: a tied head, stored rotary frequencies
   * @throws LmqError `export/unsupported` for a tensor that the architecture does not have
   */
  place(tensor: string): GgufPlace | null;
}

function familyOf({ family }: Architecture): [name: string, GgufFamily] {
  const name = ARCHITECTURES.get(family);
  return name ? [name, GGUF_FAMILIES.get(name)!] : unsupported('GGUF export does not know this architecture', family);
}

/** Name in the file of a linear's tensor; of an expert, the stack that it is in. */
export function ggufTensorName(architecture: Architecture, { layer, role, expert }: Site): string {
  if (role === 'head') return architecture.tied ? EMBEDDING : HEAD;
  return ggufLinear(familyOf(architecture)[1], architecture, layer, role, expert).tensor;
}

/**
 * Key-values and tensor places for a GGUF file.
 * @param architecture of a Hugging Face checkpoint: `parseHfConfig`
 * @throws LmqError `export/unsupported` for what llama.cpp does not run
 */
export function ggufModel(architecture: Architecture, { fileType, name }: GgufModelOpts): GgufModel {
  const [arch, family] = familyOf(architecture);
  const a = architecture;
  const notes: string[] = [];
  const metadata: GgufEntry[] = [];
  const general = (key: string, type: GgufEntry['type'], value: unknown) => metadata.push({ key: `general.${key}`, type, value });
  const add = (key: string, type: GgufEntry['type'], value: unknown) => metadata.push({ key: `${arch}.${key}`, type, value });
  general('architecture', 'string', arch);
  general('type', 'string', 'model');
  if (name !== undefined) general('name', 'string', name);
  general('file_type', 'u32', GGUF_FILE_TYPES.get(fileType)!.id);
  if (isBlockFileType(fileType)) general('quantization_version', 'u32', 2);
  add('context_length', 'u32', contextOf(a, family, notes));
  add('embedding_length', 'u32', a.hidden);
  add('block_count', 'u32', a.layers);
  add('feed_forward_length', 'u32', a.mlp.intermediate);
  add('attention.head_count', 'u32', a.heads);
  add('attention.head_count_kv', 'u32', a.kvHeads);
  add('attention.key_length', 'u32', a.headDim);
  add('attention.value_length', 'u32', a.headDim);
  add('attention.layer_norm_rms_epsilon', 'f32', a.norm.eps);
  for (const [key, type, value] of windowEntries(a, family, notes)) add(key, type, value);
  add('rope.dimension_count', 'u32', a.rope.rotary);
  add('rope.freq_base', 'f32', a.rope.theta);
  for (const [key, type, value] of ropeEntries(a, arch)) add(key, type, value);
  add('vocab_size', 'u32', a.vocab);
  if (a.moe) {
    add('expert_count', 'u32', a.moe.experts);
    add('expert_used_count', 'u32', a.moe.topK);
  }
  checkActivation(a, family);
  if (a.embeddingScale !== undefined && a.embeddingScale !== Math.fround(Math.sqrt(a.hidden))) {
    notes.push(
      `llama.cpp multiplies embeddings with ${Math.fround(Math.sqrt(a.hidden))}, the original with ${a.embeddingScale}, rounded to its own format`,
    );
  }
  const places = placesOf(a, family);
  return {
    metadata,
    extra: a.rope.scaling?.type === 'llama3' ? [{ name: ROPE_FACTORS, data: ropeFactors(a) }] : [],
    notes,
    place(tensor) {
      const to = places.get(tensor);
      if (to) return to;
      if (tensor === 'lm_head.weight' && a.tied) return null;
      const frequencies = /^model\.layers\.(\d{1,9})\.self_attn\.rotary_emb\.inv_freq$/.exec(tensor);
      if (frequencies && Number(frequencies[1]) < a.layers) return null;
      return unsupported(`GGUF's ${arch} has no place for a tensor`, tensor);
    },
  };
}

function placesOf(a: Architecture, family: GgufFamily): Map<string, GgufPlace> {
  const places = new Map<string, GgufPlace>();
  const one = a.norm.plusOne ? { add: 1 } : {};
  places.set(a.tensors.embedding, { name: EMBEDDING });
  if (!a.tied) places.set(a.tensors.head, { name: HEAD });
  places.set(a.tensors.finalNorm, { name: FINAL_NORM, ...one });
  const scale = a.attention.scale / ggufAttentionScale(family, a);
  for (const [norm, nameOf] of Object.entries(ggufNorms(family))) {
    // llama.cpp's factor of the scores is fixed: the norm of the queries makes up for a model that has its own
    const scaled = norm === 'queryNorm' && scale !== 1 ? { scale } : {};
    a.tensors[norm as 'queryNorm']?.forEach((tensor, layer) => {
      places.set(tensor, { name: nameOf(layer), ...one, ...scaled });
    });
  }
  if (scale !== 1 && !family.headNorms) unsupported('llama.cpp has no other factor of the attention scores', a.attention.scale);
  for (const site of a.sites) {
    const { layer, role, expert } = site as { layer: number; role: Exclude<Site['role'], 'head'>; expert?: number };
    const { tensor, bias } = ggufLinear(family, a, layer, role, expert);
    if (expert !== undefined) {
      places.set(site.tensor, { stack: tensor, expert });
      continue;
    }
    const heads = role === 'q' ? a.heads : role === 'k' ? a.kvHeads : 0;
    const permute = family.style === 'interleaved' && heads ? { permuteHeads: heads } : {};
    places.set(site.tensor, { name: tensor, ...permute });
    if (site.bias === undefined) continue;
    if (!family.biased.includes(role)) unsupported('llama.cpp has no bias there in this architecture', site.bias);
    places.set(site.bias, { name: bias, ...permute });
  }
  return places;
}

function checkActivation({ mlp }: Architecture, { gemma }: GgufFamily): void {
  const own = gemma ? 'gelu-tanh' : 'silu';
  if (mlp.activation !== own) unsupported(`llama.cpp runs this architecture with ${own} only`, mlp.activation);
}
