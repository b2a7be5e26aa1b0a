/**
 * A GGUF file seen as the Hugging Face model that it was made of: its tensor names, one tensor per expert, and the rows of queries and keys
 * in Hugging Face's order.
 * @module
 */
import { type Checkpoint, type GgufFile, type TensorInfo, unpermutedRows } from '@lmq/checkpoints';
import { selectRows } from '@lmq/formats';
import type { Architecture } from '@lmq/model';
import { type CompressedTensor, type Dense, LmqError } from '@lmq/tensor';

interface Part {
  tensor: string;
  /** Rows of the stored tensor. */
  rows?: [from: number, to: number];
  /** Heads whose rows are interleaved. */
  heads?: number;
}

export interface HfView {
  checkpoint: Checkpoint;
  /** Stored tensors that the view leaves out. */
  left: string[];
}

/**
 * @param architecture of the file, as `parseGgufConfig` gives it
 * @throws LmqError `export/unsupported` for families whose stored values differ by more than names and order
 */
export function hfView(file: GgufFile, architecture: Architecture): HfView {
  const parts = partsOf(architecture);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { tensor, rows }] of parts) {
    const info = file.tensors.get(tensor);
    if (!info) throw new LmqError('model/missing', 'a weight is not in the file', { op: 'hfView', tensor });
    const cols = info.shape.at(-1)!;
    const all = info.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const shape = rows ? [rows[1] - rows[0], cols] : info.shape;
    tensors.set(name, { ...info, name, shape, bytes: rows ? (info.bytes / all) * (rows[1] - rows[0]) : info.bytes });
  }
  const used = new Set([...parts.values()].map((p) => p.tensor));
  const checkpoint: Checkpoint = {
    format: 'gguf',
    tensors,
    metadata: file.metadata,
    async read(name) {
      const part = parts.get(name);
      if (!part) throw new LmqError('model/missing', 'there is no such tensor', { op: 'read', tensor: name });
      const { tensor, rows, heads } = part;
      const t = await (rows ? file.readRows(tensor, ...rows) : file.read(tensor));
      return heads === undefined ? t : inOrder(t, heads);
    },
    close: () => file.close(),
  };
  return { checkpoint, left: [...file.tensors.keys()].filter((name) => !used.has(name)) };
}

function partsOf({ tensors, sites, tied, norm, family, rope, heads, kvHeads }: Architecture): Map<string, Part> {
  if (norm.plusOne || tensors.attentionPostNorm || family === 'phi3')
    throw new LmqError('export/unsupported', 'models of this family are not converted from GGUF', {
      op: 'hfView',
      found: family,
      hint: 'Start from the original Hugging Face folder.',
    });
  const parts = new Map<string, Part>([
    ['model.embed_tokens.weight', { tensor: tensors.embedding }],
    ['model.norm.weight', { tensor: tensors.finalNorm }],
  ]);
  if (!tied) parts.set('lm_head.weight', { tensor: tensors.head });
  const norms = [
    ['input_layernorm', tensors.attentionNorm],
    ['post_attention_layernorm', tensors.mlpNorm],
    ['self_attn.q_norm', tensors.queryNorm ?? []],
    ['self_attn.k_norm', tensors.keyNorm ?? []],
  ] as const;
  for (const [module, names] of norms)
    for (const [l, tensor] of names.entries()) parts.set(`model.layers.${l}.${module}.weight`, { tensor });
  for (const { name, tensor, slice, role, bias } of sites) {
    const interleaved = rope.style === 'interleaved' && (role === 'q' || role === 'k');
    const order = interleaved ? { heads: role === 'q' ? heads : kvHeads } : {};
    parts.set(`${name}.weight`, { tensor, ...(slice && { rows: slice }), ...order });
    if (bias !== undefined) parts.set(`${name}.bias`, { tensor: bias, ...order });
  }
  return parts;
}

/** Rows of queries or keys in Hugging Face's order; a bias is one row, of which every element stands for a row of the weight. */
function inOrder(t: CompressedTensor, heads: number): CompressedTensor {
  if (t.shape[0] !== 1) return selectRows(t, unpermutedRows(t.shape[0], heads));
  const bias = t as Dense;
  const index = unpermutedRows(t.shape[1], heads);
  return { ...bias, data: bias.data.map((_, i) => bias.data[index[i]!]!) as Dense['data'] };
}
