/**
 * Any opened model as a Hugging Face model to convert: its tensors under Hugging Face's names, and the small files of its folder. For a GGUF
 * file these are made of its key-values, or taken from the folder of the original.
 * @module
 */
import type { Checkpoint, GgufFile } from '@lmq/checkpoints';
import { type Architecture, parseHfConfig, toHfConfig, tokenizerFilesFromGguf } from '@lmq/model';
import { type FloatFormat, LmqError, printable } from '@lmq/tensor';
import { hfView } from '../_hf-view.js';
import type { Companions } from './companions.js';
import type { OpenModel } from './open-model.js';
import { readConfig } from './text-files.js';

export interface HfModel {
  checkpoint: Checkpoint;
  /** With Hugging Face's tensor names, and rows in its order. */
  architecture: Architecture;
  companions: Companions;
  /** Module names of all linears: those in blocks, and a head of its own. */
  linears: string[];
  notes: string[];
}

/**
 * @param original folder of the Hugging Face model that a GGUF file was made of
 * @throws LmqError `argument/option` for `original` with another model, `model/config` when it is not that of the file, `export/unsupported`
 * and `tokenizer/unsupported` when the files cannot be made
 */
export async function asHfModel({ checkpoint, architecture, folder, name }: OpenModel, original?: string): Promise<HfModel> {
  if (folder !== undefined) {
    if (original !== undefined)
      throw new LmqError('argument/option', 'the model has its configuration beside it', {
        op: 'convert',
        found: `--original ${original}`,
        hint: 'Leave it out: it is for GGUF files.',
      });
    return { checkpoint, architecture, companions: { folder, files: {} }, linears: linearsOf(architecture), notes: [] };
  }
  const file = checkpoint as GgufFile;
  const { companions, notes } = await companionsOf(file, architecture, original, name);
  const config = companions.folder === undefined ? companions.files['config.json'] : await readConfig(companions.folder, 'config.json');
  const stated = parseHfConfig(config, (tensor) => !(architecture.tied && tensor === 'lm_head.weight'));
  if (original !== undefined) checkOriginal(stated, architecture, original);
  const { checkpoint: view, left } = hfView(file, architecture, stated);
  notes.push(...left.map((tensor) => `${printable(tensor)} is left out: the architecture has no use for it`));
  return { checkpoint: view, architecture: stated, companions, linears: linearsOf(stated), notes };
}

/** The small files of the model's folder: those of the original, or made of the file's key-values. */
async function companionsOf(file: GgufFile, architecture: Architecture, original: string | undefined, name: string) {
  if (original !== undefined) return { companions: { folder: original, files: {} } as Companions, notes: [] as string[] };
  const files = tokenizerFilesFromGguf(file.metadata);
  const special = (key: string) => file.metadata.get(`tokenizer.ggml.${key}_token_id`);
  const bos = special('bos');
  const ends = [special('eos'), special('eot')].filter((id) => typeof id === 'number');
  const dtype = commonFloat(file);
  files['config.json'] = toHfConfig(architecture, { dtype, ...(typeof bos === 'number' && { bos }), eos: [...new Set(ends)] });
  const notes = [
    `${printable(name)} has no Hugging Face files: configuration and tokenizer are made of its key-values; --original takes them from the model's own folder`,
  ];
  return { companions: { files } as Companions, notes };
}

/** Module names of a model's linears, fused ones by the name of their tensor: those in blocks, and a head of its own. */
export function linearsOf({ sites, tied, tensors }: Architecture): string[] {
  const names = [...sites.map((s) => s.tensor), ...(tied ? [] : [tensors.head])];
  return [...new Set(names)].map((name) => name.replace(/\.weight$/, ''));
}

/** The float format of most values in matrices of floats; half precision where all are quantized. */
function commonFloat({ tensors }: Checkpoint): FloatFormat {
  const bytes = { fp32: 0, fp16: 0, bf16: 0 };
  for (const { format, shape, bytes: n } of tensors.values())
    if (shape.length > 1 && Object.hasOwn(bytes, format)) bytes[format as FloatFormat] += n;
  return (['fp16', 'bf16', 'fp32'] as const).reduce((a, b) => (bytes[b] > bytes[a] ? b : a));
}

/** What two descriptions of one model must agree on. */
const SAME = ['layers', 'hidden', 'heads', 'kvHeads', 'headDim', 'vocab', 'tied'] as const;

function checkOriginal(config: Architecture, file: Architecture, folder: string): void {
  const differs =
    SAME.find((key) => config[key] !== file[key]) ?? (config.mlp.intermediate !== file.mlp.intermediate ? 'intermediate' : undefined);
  if (differs === undefined) return;
  const of = (a: Architecture) => (differs === 'intermediate' ? a.mlp.intermediate : a[differs]);
  throw new LmqError('model/config', 'the original folder is of another model', {
    op: 'convert',
    file: folder,
    expected: `${differs} ${of(file)}`,
    found: of(config),
  });
}
