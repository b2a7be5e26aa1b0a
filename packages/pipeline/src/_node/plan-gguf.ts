/**
 * What a GGUF file of a model will hold, decided before anything is read: its key-values, and for each tensor its type and where it comes
 * from.
 * @module
 */
import { join } from 'node:path';
import {
  type Checkpoint,
  fitColumns,
  type GgufEntry,
  type GgufFileTypeName,
  type GgufMatrixType,
  ggufModelName,
  ggufNeedsF32,
  ggufTensorType,
  ggufTokenizer,
} from '@lmq/checkpoints';
import { BLOCK_TYPES } from '@lmq/formats';
import { type Architecture, ggufModel, headSite } from '@lmq/model';
import { type BlockType, LmqError, printable } from '@lmq/tensor';
import type { Override, Recipe } from '../api.js';
import type { Importance } from '../importance.js';
import { EMBEDDINGS, isDense } from '../plan.js';
import { matches } from '../recipe.js';
import { optional, readConfig, readTemplate, readTokenizerJson } from './text-files.js';

export interface PlanGgufOpts {
  architecture: Architecture;
  folder: string;
  recipe: Recipe;
  /** Model name for `general.name`. */
  name: string;
  importance?: Importance;
}

/** One tensor of the file and the tensors of the checkpoint that go into it: one, or the experts of a stack in order. */
export interface Placed {
  name: string;
  shape: number[];
  type: GgufMatrixType;
  sources: string[];
  permuteHeads?: number;
  add?: number;
  scale?: number;
  /** Not of the checkpoint. */
  data?: Float32Array;
}

/** `export: 'gguf:q4_k_m'` → `q4_k_m`. */
export function fileTypeOf({ export: target }: Recipe): GgufFileTypeName {
  return target.slice('gguf:'.length) as GgufFileTypeName;
}

/** What the file will hold, in order, its metadata, and what there is to say about it. */
export async function planGguf(
  checkpoint: Checkpoint,
  { architecture, folder, recipe, name, importance }: PlanGgufOpts,
): Promise<{ metadata: GgufEntry[]; tensors: Placed[]; notes: string[] }> {
  const fileType = fileTypeOf(recipe);
  const tokenizer = await optional(readTokenizerJson, folder, 'tokenizer.json');
  if (!tokenizer) {
    throw new LmqError('file/missing', 'GGUF needs the tokenizer', {
      op: 'export',
      file: join(folder, 'tokenizer.json'),
      hint: 'Add it to the model folder, or export to lmq.',
    });
  }
  const { metadata, extra, notes, place } = ggufModel(architecture, { fileType, name: ggufModelName(name, tokenizer) });
  const vocabulary = ggufTokenizer({
    config: await readConfig(folder, 'config.json'),
    tokenizer,
    tokenizerConfig: await optional(readTokenizerJson, folder, 'tokenizer_config.json'),
    generationConfig: await optional(readConfig, folder, 'generation_config.json'),
    chatTemplate: await optional(readTemplate, folder, 'chat_template.jinja'),
    size: architecture.vocab,
  });
  metadata.push(...vocabulary.entries);
  notes.push(...vocabulary.notes);
  const tensors: Placed[] = extra.map(({ name, data }) => ({ name, shape: [data.length], type: 'F32', sources: [], data }));
  const stacks = new Map<string, Placed>();
  for (const [source, { shape }] of checkpoint.tensors) {
    const to = place(source);
    if (!to) {
      notes.push(`${printable(source)} is not written: GGUF has no place for it (tied or unused)`);
    } else if ('stack' in to) {
      const placed = stacks.get(to.stack) ?? { name: to.stack, shape, type: 'F32', sources: [] };
      placed.sources[to.expert] = source;
      stacks.set(to.stack, placed);
    } else tensors.push({ ...to, shape, type: 'F32', sources: [source] });
  }
  for (const s of stacks.values()) tensors.push({ ...s, shape: [s.sources.length, ...s.shape] });
  const fallbacks = new Map<string, Placed[]>();
  for (const t of tensors) {
    if (t.data) continue;
    const { type, wanted } = typeOf(t, checkpoint, { architecture, recipe, fileType, importance });
    t.type = type;
    const weighed = importance?.of(t.name, t.shape); // refuses those of another model before any work
    if (fileType === 'q2_k_s' && type === 'Q2_K' && !weighed && t.name.startsWith('blk.')) {
      throw new LmqError('argument/option', 'q2_k_s is for use with importances, without which llama.cpp refuses it too', {
        op: 'export',
        tensor: t.name,
        expected: 'an importance matrix',
        found: importance ? 'none of this tensor' : 'none',
        hint: 'Give one, which lmq calibrate --export imatrix makes, or export to gguf:q2_k.',
      });
    }
    if (wanted) fallbacks.set(`${wanted} as ${type}`, [...(fallbacks.get(`${wanted} as ${type}`) ?? []), t]);
  }
  for (const [what, [first, ...others]] of fallbacks) {
    const columns = first!.shape[first!.shape.length - 1];
    notes.push(
      `${what}: ${first!.name}, whose ${columns} columns are not whole blocks${others.length ? `, and ${others.length} more` : ''}`,
    );
  }
  return { metadata, tensors, notes };
}

interface Facts extends Pick<PlanGgufOpts, 'architecture' | 'recipe' | 'importance'> {
  fileType: GgufFileTypeName;
}

/** Type of a tensor in the file; `wanted` as `ggufTensorType` gives it. */
function typeOf({ name, shape, sources }: Placed, checkpoint: Checkpoint, facts: Facts): { type: GgufMatrixType; wanted?: GgufMatrixType } {
  const { architecture: a, recipe, fileType, importance } = facts;
  if (ggufNeedsF32(name, shape) || fileType === 'f32') return { type: 'F32' };
  const float = fileType === 'bf16' ? 'BF16' : 'F16';
  if (recipe.stages[0]?.method !== 'ggml') {
    const dense = isDense(checkpoint.tensors.get(sources[0]!)!);
    return { type: dense ? float : (fileType.toUpperCase() as BlockType) }; // quantized linears: the file's block type, verbatim
  }
  const { skip, type } = overrideOf(sources[0]!, facts);
  if (skip) return { type: float };
  if (type) return fitColumns(type, shape[shape.length - 1]!);
  return ggufTensorType(fileType, name, shape, { ...a, experts: a.moe?.experts ?? 0, importance: importance !== undefined });
}

/** What the overrides say of a tensor, under the name of any linear in it. */
function overrideOf(tensor: string, { architecture: a, recipe }: Facts): Pick<Override, 'skip' | 'type'> {
  const names = [...a.sites, headSite(a)].flatMap((s) => (s.tensor === tensor ? [s.name] : []));
  if (tensor === a.tensors.embedding) names.push(EMBEDDINGS);
  const own: Pick<Override, 'skip' | 'type'> = {};
  for (const { match, skip, type } of recipe.overrides) {
    if (names.some((name) => matches(match, name))) Object.assign(own, skip !== undefined && { skip }, type && { type });
  }
  return own;
}

/** Bytes of a tensor's data. */
export function ggufBytesOf({ shape, type }: Pick<Placed, 'shape' | 'type'>): number {
  const n = shape.reduce((a, b) => a * b, 1);
  if (type === 'F32') return 4 * n;
  if (type === 'F16' || type === 'BF16') return 2 * n;
  const { blockSize, blockBytes } = BLOCK_TYPES[type];
  return (n / blockSize) * blockBytes;
}
