/**
 * What a model is stored as, in words, and what is odd about it: for people who look into a file.
 * @module
 */
import type { Checkpoint, GgufFile, TensorInfo } from '@lmq/checkpoints';
import { layoutName } from '@lmq/formats';
import { type CompressedTensor, isLmqError, printable } from '@lmq/tensor';
import { fileTypeName } from '../_gguf-file-type.js';
import { configOf } from './companions.js';
import { dtypeOf } from './export-folder.js';
import type { OpenModel } from './open-model.js';
import { quantizationOf } from './quantization.js';

/** Tensors of one format. */
export interface FormatShare {
  format: string;
  tensors: number;
  bytes: number;
  /** Of all bytes. */
  share: number;
}

export interface FormatDescription {
  /** E.g. `GPTQ v1, 4-bit g128 symmetric, act-order`. */
  name: string;
  /** What runtimes may stumble over. */
  quirks: string[];
  /** Largest first. */
  formats: FormatShare[];
}

/** Describes a model by its headers, its configuration and one quantized weight, which is read. */
export async function describeFormat(model: OpenModel): Promise<FormatDescription> {
  const { checkpoint, folder } = model;
  const config = folder === undefined ? undefined : await configOf({ folder, files: {} });
  const quantization = folder === undefined ? undefined : ((await quantizationOf(folder, config)) ?? {});
  const formats = sharesOf(checkpoint);
  const quirks: string[] = [];
  const subject: Subject = {
    checkpoint,
    formats,
    quirks,
    ...(quantization && { quantization }),
    ...(config && { dtype: dtypeOf(config) }),
  };
  const sample = [...checkpoint.tensors.values()].find((t) => !FLOATS.has(t.format));
  if (sample) subject.sample = await readSample(checkpoint, sample, quirks);
  const name = await (NAMES[checkpoint.format] ?? plainName)(subject);
  return { name: `${name}${quirks.some((q) => q.startsWith(MISLABELLED)) ? '; mislabelled' : ''}`, quirks, formats };
}

interface Subject {
  checkpoint: Checkpoint;
  formats: readonly FormatShare[];
  quirks: string[];
  quantization?: Record<string, unknown>;
  dtype?: string;
  /** The first weight that is not plain floats. */
  sample?: CompressedTensor;
}

const FLOATS = new Set(['fp32', 'fp16', 'bf16']);
const MISLABELLED = 'the label contradicts the data: ';

/** How each format is named; one that is not here goes by what most of it is. */
const NAMES: Partial<Record<Checkpoint['format'], (of: Subject) => string>> = {
  gguf({ checkpoint, formats, quirks }) {
    const { version } = checkpoint as GgufFile;
    const most = formats[0]?.format;
    const says = fileTypeName(checkpoint);
    const mixture = says !== undefined && most !== undefined && says !== most && says.startsWith(most) ? ` (${says} mixture)` : '';
    const split = Number(checkpoint.metadata.get('split.count') ?? 1);
    if (version < 3) quirks.push(`GGUF version ${version} is outdated: llama.cpp reads version 2 and 3`);
    return [`GGUF v${version ?? '?'}`, most && `mostly ${printable(most)}${mixture}`, split > 1 && `split in ${split}`]
      .filter(Boolean)
      .join(', ');
  },
  gptq({ formats, quantization = {}, sample, dtype, quirks }) {
    const v2 = (quantization.checkpoint_format ?? quantization.format) === 'gptq_v2';
    const t = sample?.kind === 'affine' ? sample : undefined;
    if (t?.bits === 3 && !v2) quirks.push('3-bit zero points of version 1 are read wrongly by some runtimes');
    if (t && symmetry(t) === 'asymmetric' && !v2)
      quirks.push('asymmetric zero points of version 1: GPTQModel takes such files only from itself');
    if (quantization.desc_act === true && t && !t.groupIndex)
      quirks.push('desc_act is true, and columns are grouped in order: runtimes take a slower path than they need');
    if (quantization.dynamic) quirks.push('rules of "dynamic" give linears different bits or groups: older runtimes ignore them');
    scalesQuirk(t, dtype, quirks);
    const order = t?.groupIndex ? ', act-order' : '';
    return `GPTQ ${v2 ? 'v2' : 'v1'}, ${widths(formats)} ${t ? symmetry(t) : quantization.sym === false ? 'asymmetric' : 'symmetric'}${order}`;
  },
  awq({ formats, sample, dtype, quirks }) {
    const t = sample?.kind === 'affine' ? sample : undefined;
    scalesQuirk(t, dtype, quirks);
    return `AWQ GEMM, ${widths(formats)}${t ? ` ${symmetry(t)}` : ''}`;
  },
};

/** `bf16 safetensors in 3 files`, `lmq, mostly affine 4-bit g64 asym`. */
function plainName({ checkpoint, formats }: Subject): string {
  const files = new Set([...checkpoint.tensors.values()].map((t) => t.file)).size;
  const most = formats[0]?.format ?? 'empty';
  return `${checkpoint.format}, ${formats.length > 1 ? 'mostly ' : ''}${printable(most)}${files > 1 ? `, ${files} files` : ''}`;
}

/** `4-bit g128`, or of several kinds the largest. */
function widths(formats: readonly FormatShare[]): string {
  const quantized = formats.filter((f) => !FLOATS.has(f.format)).map((f) => f.format.replace(/^affine /, ''));
  return `${quantized[0]}${quantized.length > 1 ? ` (and ${quantized.slice(1).join(', ')})` : ''}`;
}

const symmetry = (t: CompressedTensor) => (layoutName(t).includes(' sym') ? 'symmetric' : 'asymmetric');

function scalesQuirk(t: CompressedTensor | undefined, dtype: string | undefined, quirks: string[]): void {
  if (t?.kind !== 'affine' || dtype === undefined || t.scales.format === dtype || t.scales.format === 'fp32') return;
  quirks.push(`scales are ${t.scales.format}, and config.json says ${dtype}: runtimes that load the model in ${dtype} round them`);
}

async function readSample(checkpoint: Checkpoint, { name }: TensorInfo, quirks: string[]): Promise<CompressedTensor | undefined> {
  try {
    return await checkpoint.read(name);
  } catch (e) {
    if (!isLmqError(e)) throw e;
    quirks.push(e.code === 'model/config' ? MISLABELLED + e.message : e.message);
    return undefined;
  }
}

function sharesOf({ tensors }: Checkpoint): FormatShare[] {
  const groups = new Map<string, FormatShare>();
  let total = 0;
  for (const { format, bytes } of tensors.values()) {
    const group = groups.get(format) ?? { format, tensors: 0, bytes: 0, share: 0 };
    groups.set(format, { ...group, tensors: group.tensors + 1, bytes: group.bytes + bytes });
    total += bytes;
  }
  return [...groups.values()].map((g) => ({ ...g, share: total ? g.bytes / total : 0 })).sort((a, b) => b.bytes - a.bytes);
}
