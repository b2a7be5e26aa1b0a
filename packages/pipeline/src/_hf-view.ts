/**
 * A GGUF file seen as the Hugging Face model that it was made of: its tensor names, one tensor per expert, the rows of queries and keys in
 * Hugging Face's order, and norms less the 1 that Gemma's lack there.
 * @module
 */
import { type Checkpoint, type GgufFile, type TensorInfo, unpermutedRows } from '@lmq/checkpoints';
import { decode, selectRows } from '@lmq/formats';
import type { Architecture, Site } from '@lmq/model';
import { type CompressedTensor, type Dense, LmqError } from '@lmq/tensor';

/** Rows are read of GGUF files only. */
type Source = Checkpoint & Partial<Pick<GgufFile, 'readRows'>>;

/** Where a file keeps a tensor. */
export interface Part {
  tensor: string;
  /** Rows of the stored tensor. */
  rows?: [from: number, to: number];
  /** Heads whose rows are interleaved. */
  heads?: number;
  /** Added to each value. */
  add?: number;
}

export interface HfView {
  checkpoint: Checkpoint;
  /** Stored tensors that the view leaves out. */
  left: string[];
}

const NORMS = ['attentionNorm', 'mlpNorm', 'attentionPostNorm', 'mlpPostNorm', 'queryNorm', 'keyNorm'] as const;

/**
 * @param architecture of the file, as `parseGgufConfig` gives it
 * @param hf the same with Hugging Face's names, as `parseHfConfig` gives it
 * @throws LmqError `model/config` where one of the two has a tensor that the other lacks
 */
export function hfView(file: GgufFile, architecture: Architecture, hf: Architecture): HfView {
  const parts = partsOf(architecture, hf);
  const used = new Set([...parts.values()].map((p) => p.tensor));
  return { checkpoint: viewOf(file, parts), left: [...file.tensors.keys()].filter((name) => !used.has(name)) };
}

/** A file's tensors under other names, and nothing else of it. @throws LmqError `model/missing` for one that is not there */
export function viewOf(file: Source, parts: ReadonlyMap<string, Part>): Checkpoint {
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { tensor, rows }] of parts) {
    const info = file.tensors.get(tensor);
    if (!info) throw new LmqError('model/missing', 'a weight is not in the file', { op: 'openModel', tensor });
    const cols = info.shape.at(-1)!;
    const all = info.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const shape = rows ? [rows[1] - rows[0], cols] : info.shape;
    tensors.set(name, { ...info, name, shape, bytes: rows ? (info.bytes / all) * (rows[1] - rows[0]) : info.bytes });
  }
  return {
    format: file.format,
    tensors,
    metadata: file.metadata,
    async read(name) {
      const part = parts.get(name);
      if (!part) throw new LmqError('model/missing', 'there is no such tensor', { op: 'read', tensor: name });
      return readPart(file, part);
    },
    close: () => file.close(),
  };
}

/** A linear's weight in a GGUF file, rows in Hugging Face's order. */
export function readSite(file: GgufFile, architecture: Architecture, site: Site): Promise<CompressedTensor> {
  return readPart(file, partOf(architecture, site));
}

async function readPart(file: Source, { tensor, rows, heads, add }: Part): Promise<CompressedTensor> {
  const t = await (rows ? file.readRows!(tensor, ...rows) : file.read(tensor));
  if (add !== undefined) {
    const { data } = decode(t);
    return { kind: 'dense', shape: [t.shape[0], t.shape[1]], format: 'fp32', data: data.map((x) => x + add) };
  }
  return heads === undefined ? t : inOrder(t, heads);
}

function partsOf(a: Architecture, hf: Architecture): Map<string, Part> {
  const parts = new Map<string, Part>();
  const put = (name: string | undefined, part: Partial<Part>) => {
    if (name === undefined || part.tensor === undefined)
      throw new LmqError('model/config', 'a tensor has no counterpart in the configuration', {
        op: 'hfView',
        tensor: name ?? part.tensor,
        expected: 'both to have it, or none',
        found: name === undefined ? 'in the file only' : 'in the configuration only',
        hint: 'Name the folder of the model that this file was made of.',
      });
    parts.set(name, part as Part);
  };
  const norm = hf.norm.plusOne && !a.norm.plusOne ? { add: -1 } : {};
  put(hf.tensors.embedding, { tensor: a.tensors.embedding });
  put(hf.tensors.finalNorm, { tensor: a.tensors.finalNorm, ...norm });
  if (!a.tied) put(hf.tensors.head, { tensor: a.tensors.head });
  for (const key of NORMS) {
    for (let l = 0; l < a.layers; l++) {
      const [name, tensor] = [hf.tensors[key]?.[l], a.tensors[key]?.[l]];
      if (name !== undefined || tensor !== undefined) put(name, { tensor, ...norm });
    }
  }
  for (const [i, site] of a.sites.entries()) {
    const there = hf.sites[i];
    const { rows, ...part } = partOf(a, site);
    put(there?.tensor, { ...part, ...(rows && !there?.slice && { rows }) }); // fused there too: whole
    if (site.bias ?? there?.bias) put(there?.bias, { ...part, tensor: site.bias });
  }
  return parts;
}

function partOf({ rope, heads, kvHeads }: Architecture, { tensor, slice, role }: Site): Part {
  const interleaved = rope.style === 'interleaved' && (role === 'q' || role === 'k');
  return { tensor, ...(slice && { rows: slice }), ...(interleaved && { heads: role === 'q' ? heads : kvHeads }) };
}

/** Rows of queries or keys in Hugging Face's order; a bias is one row, of which every element stands for a row of the weight. */
function inOrder(t: CompressedTensor, heads: number): CompressedTensor {
  if (t.shape[0] !== 1) return selectRows(t, unpermutedRows(t.shape[0], heads));
  const bias = t as Dense;
  const index = unpermutedRows(t.shape[1], heads);
  return { ...bias, data: bias.data.map((_, i) => bias.data[index[i]!]!) as Dense['data'] };
}
